"""Joining: from a one-time token to an identity on disk; and renewing a certificate that ran out offline.

The token pins the authorities by hash: the file is fetched over a connection that is not trusted, compared, and
from then on nothing else is trusted. Until the control plane has answered, nothing is written but an empty
directory; when writing fails afterwards, the token is spent and the directory holds no identity.
"""

import hashlib
from pathlib import Path
from typing import Any, TypeVar

import httpx
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from limen import __version__
from limen.crypto import sealing
from limen.edge.channel.errors import AgentRefused, WrongClock
from limen.edge.channel.identity import AgentFile, Identity, prepare_directory, save_identity, spki
from limen.kernel.clock import Clock, SystemClock
from limen.kernel.errors import Conflict, Denied, LimenError, Malformed, NotFound, Unavailable
from limen.runtime.tls import client_context
from limen.wire.agent import AgentKind, RefuseCode
from limen.wire.codec import decode, encode
from limen.wire.enrolment import (
    AUTHORITIES_PATH,
    ENROL_PATH,
    RENEW_PATH,
    Enrolled,
    EnrolmentToken,
    EnrolRequest,
    RenewedCertificate,
    RenewRequest,
    enrol_statement,
    parse_token,
    renew_statement,
)

TIMEOUT_SECONDS = 15.0
MAX_ANSWER_BYTES = 1 << 18
SOFTWARE = f"limen/{__version__}"

_ERRORS: dict[int, type[LimenError]] = {
    400: Malformed,
    403: Denied,
    404: NotFound,
    409: Conflict,
    422: Malformed,
}

T = TypeVar("T")


async def enrol(
    token_text: str,
    state_dir: Path,
    kind: AgentKind,
    *,
    server: str | None = None,
    clock: Clock | None = None,
) -> Identity:
    """Enrol this host with a one-time token and leave its identity in ``state_dir``.

    ``server`` overrides the URL in the token, for a host that reaches the control plane by another name.

    Raises:
        Malformed: the token is damaged or for another kind of agent, or this host's clock is wrong.
        NotFound, Conflict, Denied: the token is unknown, used, expired; or the server is not the token's.
        BadIdentity: the state directory cannot be used.
        Unavailable: the server does not answer.
    """
    token = parse_token(token_text)
    if token.kind is not kind:
        raise Malformed(f"this token is for a {token.kind} agent, not for a {kind}", fix=f"run: limen {token.kind}")
    base = (server or token.server).rstrip("/")
    if not base.startswith("https://"):
        raise Malformed("the server's URL must start with https://", fix="check --server")
    prepare_directory(state_dir)
    authorities = await _pinned_authorities(base, token)
    key = ec.generate_private_key(ec.SECP256R1())
    sealing_private, sealing_public = sealing.generate_keypair()
    request = EnrolRequest(
        token=token_text.strip(),
        kind=kind,
        identity_key=spki(key),
        sealing_key=sealing_public,
        proof=key.sign(enrol_statement(token.token_id, sealing_public), ec.ECDSA(hashes.SHA256())),
        software=SOFTWARE,
        now=(clock or SystemClock()).now().timestamp(),
    )
    answer = await _post(base + ENROL_PATH, request, authorities, Enrolled)
    agent = AgentFile(
        agent_id=answer.agent_id,
        tenant_id=answer.tenant_id,
        kind=answer.kind,
        name=answer.name,
        server=base,
        channel_url=answer.channel_url,
        tunnel_address=answer.tunnel_address,
    )
    return save_identity(
        state_dir,
        agent,
        key=key,
        sealing_private_key=sealing_private,
        certificate_pem=answer.certificate_pem.encode(),
        authorities_pem=authorities,
    )


async def renew_without_channel(identity: Identity, clock: Clock) -> bytes:
    """A fresh certificate (PEM) for an agent whose certificate has run out, proved with its key.

    Raises:
        AgentRefused: the agent was removed, its clock is wrong, or its key is not the enrolled one.
        Unavailable: the server does not answer.
    """
    now = clock.now().timestamp()
    request = RenewRequest(
        tenant_id=identity.tenant_id,
        agent_id=identity.agent_id,
        identity_key=identity.public_key,
        proof=identity.sign(renew_statement(identity.agent_id, now)),
        now=now,
    )
    authorities = identity.authorities_path.read_bytes()
    try:
        answer = await _post(identity.agent.server + RENEW_PATH, request, authorities, RenewedCertificate)
    except NotFound as exc:
        raise AgentRefused(RefuseCode.REMOVED, exc.message, fix=exc.fix) from exc
    except WrongClock as exc:
        raise AgentRefused(RefuseCode.CLOCK, exc.message, fix=exc.fix) from exc
    except Malformed as exc:
        raise AgentRefused(RefuseCode.IDENTITY, exc.message, fix=exc.fix) from exc
    return answer.certificate_pem.encode()


async def _pinned_authorities(base: str, token: EnrolmentToken) -> bytes:
    # Not verified on purpose: the hash in the token decides, and nothing secret is sent here.
    pem = await _fetch(httpx.AsyncClient(verify=False, trust_env=False), "GET", base + AUTHORITIES_PATH)  # noqa: S501
    if hashlib.sha256(pem).digest() != token.authorities_sha256:
        raise Denied(
            f"{base} is not the server that made this token, or someone is in between",
            fix="check the address, and make a new token; do not use this one again",
        )
    return pem


async def _post(url: str, body: Any, authorities: bytes, answer: type[T]) -> T:
    client = httpx.AsyncClient(verify=client_context(authorities), trust_env=False)
    content = await _fetch(client, "POST", url, encode(body))
    found: T = decode(content, answer)
    return found


async def _fetch(client: httpx.AsyncClient, method: str, url: str, content: bytes | None = None) -> bytes:
    headers = {"content-type": "application/json"} if content is not None else {}
    try:
        async with (
            client,
            client.stream(
                method, url, content=content, headers=headers, timeout=TIMEOUT_SECONDS, follow_redirects=False
            ) as response,
        ):
            received = bytearray()
            async for chunk in response.aiter_bytes():
                received += chunk
                if len(received) > MAX_ANSWER_BYTES:
                    raise Unavailable(f"{url} answers too much", fix="check the server's address")
            if response.status_code != httpx.codes.OK:
                raise _error(url, response.status_code, bytes(received))
            return bytes(received)
    except (httpx.HTTPError, httpx.InvalidURL) as exc:
        raise Unavailable(
            f"cannot reach {url}: {exc or type(exc).__name__}",
            fix="check the address, the network, and that the control plane runs",
        ) from exc


def _error(url: str, status: int, content: bytes) -> LimenError:
    """The problem document (RFC 9457) of the control plane as the error it was there."""
    try:
        problem = decode(content, dict[str, Any])
    except Malformed:
        problem = {}
    if "code" not in problem:
        # Not our answer: a proxy's, or another server's. It must not count as a word of the control plane.
        return Unavailable(f"{url} answers with status {status}", fix="check the server's address, or try again later")
    kind = WrongClock if problem["code"] == WrongClock.code else _ERRORS.get(status, Unavailable)
    return kind(str(problem.get("detail") or f"{url} answers with status {status}"), fix=str(problem.get("fix") or ""))
