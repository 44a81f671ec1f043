"""What each request does: the rules of key custody in one place.

Rules:

1. Leased are only ``fields``, ``lookup`` and ``sessions``, for five minutes. ``vault`` values are sealed
   and opened here, each under a data key of its own; ``storage`` values are never opened for anybody.
2. A storage credential comes in sealed to the tenant's intake key and goes out only re-sealed to a file
   agent on keyd's own record, bound to tenant, connection and grant.
3. Every call but ``Health`` is in the call log before its answer leaves.
4. An answer names what is wrong with the question; it never holds what the question held.
"""

import time
from dataclasses import dataclass

import msgspec
import structlog

from limen.crypto import envelope, sealing
from limen.crypto.aead import Cell, key_id_of
from limen.crypto.errors import Unreadable
from limen.kernel.clock import Clock
from limen.kernel.errors import Denied, LimenError, Malformed
from limen.keyd.authority import Authority, AuthorityKind, Issued
from limen.keyd.calllog import CallLog
from limen.keyd.enrolment import Enrolments
from limen.keyd.hierarchy import Hierarchy
from limen.keyd.keystore import Keystore
from limen.keyd.ports import KeyBackend
from limen.keyd.rootkeys import RootKeys
from limen.keyd.signing import SigningKeys
from limen.wire import keyd as wire
from limen.wire.keyd import Purpose

LEASE_SECONDS = 300.0

_LEASABLE = frozenset({Purpose.FIELDS, Purpose.LOOKUP, Purpose.SESSIONS})
_ROTATABLE = frozenset({Purpose.FIELDS, Purpose.VAULT, Purpose.STORAGE})
_LOGGED_FIELDS = (
    "tenant_id",
    "purpose",
    "table",
    "column",
    "row_id",
    "revision",
    "connection_id",
    "grant_id",
    "agent_id",
    "kind",
    "names",
)
_FORCED_TO_DISK = (
    wire.CreateTenant,
    wire.RotateDataKey,
    wire.AcceptStorageCredential,
    wire.ResealStorageCredential,
    wire.EnrolAgent,
    wire.RemoveAgent,
    wire.IssueServerCertificate,
    wire.Sign,
)
_log = structlog.get_logger("limen.keyd")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, as the kernel says (SO_PEERCRED)."""

    uid: int
    pid: int


class StorageCredential(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is sealed to the intake key."""

    access_key_id: str
    secret_access_key: str


class Custodian:
    """Answers requests. Made by :meth:`open`."""

    def __init__(
        self,
        *,
        backend: KeyBackend,
        hierarchy: Hierarchy,
        servers: Authority,
        agents: Authority,
        signing: SigningKeys,
        enrolments: Enrolments,
        calls: CallLog,
        clock: Clock,
    ) -> None:
        self._backend = backend
        self._hierarchy = hierarchy
        self._servers = servers
        self._agents = agents
        self._signing = signing
        self._enrolments = enrolments
        self._calls = calls
        self._clock = clock

    @classmethod
    async def open(cls, keystore: Keystore, backend: KeyBackend, calls: CallLog, clock: Clock) -> "Custodian":
        """Check that backend and keystore belong together, rewrap what is under a former KEK, load the
        platform's keys.

        Raises:
            CannotStart: when they do not belong together.
            KeystoreDamaged: when a record cannot be read.
        """
        roots = RootKeys(backend)
        await backend.health()
        await roots.check(keystore)
        hierarchy = Hierarchy(keystore, roots)
        await hierarchy.refresh()
        now = clock.now()
        return cls(
            backend=backend,
            hierarchy=hierarchy,
            servers=await Authority.load(AuthorityKind.SERVER, keystore, roots, now),
            agents=await Authority.load(AuthorityKind.AGENT, keystore, roots, now),
            signing=await SigningKeys.load(keystore, roots),
            enrolments=Enrolments(keystore),
            calls=calls,
            clock=clock,
        )

    async def handle(self, request: wire.Request, caller: Caller) -> wire.Reply:
        """Answer one request; whatever goes wrong becomes a ``Failure``."""
        started = time.perf_counter()
        reply = await self._answer(request)
        if isinstance(request, wire.Health):
            return reply
        try:
            self._record(request, reply, caller, started)
        except LimenError as exc:
            return _failure(exc)
        return reply

    def _record(self, request: wire.Request, reply: wire.Reply, caller: Caller, started: float) -> None:
        entry: dict[str, object] = {
            "at": self._clock.now().isoformat(),
            "call": request.__struct_config__.tag,
            "uid": caller.uid,
            "pid": caller.pid,
            "outcome": reply.code if isinstance(reply, wire.Failure) else "ok",
            "ms": round((time.perf_counter() - started) * 1000, 3),
        }
        for name in _LOGGED_FIELDS:
            value = getattr(request, name, None)
            if value is not None:
                entry[name] = value[:200] if isinstance(value, str) else value
        self._calls.write(entry, durable=isinstance(request, _FORCED_TO_DISK))

    async def _answer(self, request: wire.Request) -> wire.Reply:
        try:
            return await self._perform(request)
        except LimenError as exc:
            return _failure(exc)
        except Exception as exc:  # the daemon must survive any one request; the text may hold what it held
            _log.error("request failed", call=request.__struct_config__.tag, error=type(exc).__name__)
            return wire.Failure(code="internal", message="key custody failed", fix="read the log of `limen keyd`")

    async def _perform(self, request: wire.Request) -> wire.Reply:
        match request:
            case wire.Health():
                await self._backend.health()
                return wire.Done()
            case wire.CreateTenant():
                await self._hierarchy.create(request.tenant_id)
                return wire.Done()
            case wire.LeaseDataKey():
                return await self._lease(request)
            case wire.RotateDataKey():
                return await self._rotate(request)
            case wire.SealValue():
                return await self._seal(request)
            case wire.OpenValue():
                return await self._open(request)
            case wire.IntakeKey():
                keys = await self._hierarchy.of(request.tenant_id)
                return wire.PublicKey(key=keys.record.intake_public)
            case wire.AcceptStorageCredential():
                return await self._accept(request)
            case wire.ResealStorageCredential():
                return await self._reseal(request)
            case _:
                return self._perform_for_platform(request)

    def _perform_for_platform(self, request: wire.Request) -> wire.Reply:
        now = self._clock.now()
        match request:
            case wire.EnrolAgent():
                agent = self._enrolments.enrol(
                    request.agent_id,
                    request.tenant_id,
                    request.kind,
                    request.identity_key,
                    request.sealing_key,
                    now,
                )
            case wire.RenewAgent():
                agent = self._enrolments.active(request.agent_id)
            case wire.RemoveAgent():
                self._enrolments.remove(request.agent_id, now)
                return wire.Done()
            case wire.IssueServerCertificate():
                return _certificate(self._servers.issue_server(request.names, request.identity_key, now))
            case wire.AuthorityCertificates():
                return wire.Authorities(
                    server_ca_pem=self._servers.certificate_pem(), agent_ca_pem=self._agents.certificate_pem()
                )
            case wire.Sign():
                return wire.Signature(signature=self._signing.sign(request.purpose, request.data))
            case wire.SigningKey():
                return wire.PublicKey(key=self._signing.public(request.purpose))
            case _:
                raise Malformed("key custody does not know this request", fix="run the same release on both ends")
        return _certificate(
            self._agents.issue_agent(agent.tenant_id, agent.kind, agent.agent_id, agent.identity_key, now)
        )

    async def _lease(self, request: wire.LeaseDataKey) -> wire.Reply:
        if request.purpose not in _LEASABLE:
            raise Denied(f"keys of purpose {request.purpose} are never lent", fix="ask for the operation instead")
        chain = (await self._hierarchy.of(request.tenant_id)).chains[request.purpose]
        *former, current = chain
        return wire.DataKey(
            key_id=current.ready.key_id,
            key=current.material,
            lease_seconds=LEASE_SECONDS,
            former=tuple(wire.FormerKey(key_id=old.ready.key_id, key=old.material) for old in former),
        )

    async def _rotate(self, request: wire.RotateDataKey) -> wire.Reply:
        if request.purpose not in _ROTATABLE:
            raise Denied(
                f"keys of purpose {request.purpose} are not rotated",
                fix="what was tagged with the former key could not be found any more",
            )
        await self._hierarchy.rotate(request.tenant_id, request.purpose)
        return wire.Done()

    async def _seal(self, request: wire.SealValue) -> wire.Reply:
        _only_vault(request.purpose)
        keys = await self._hierarchy.of(request.tenant_id)
        blob = envelope.seal(keys.current(Purpose.VAULT), _cell(request), request.plaintext)
        return wire.Blob(blob=blob)

    async def _open(self, request: wire.OpenValue) -> wire.Reply:
        _only_vault(request.purpose)
        keys = await self._hierarchy.of(request.tenant_id)
        parent = keys.by_id(Purpose.VAULT, envelope.parent_key_id(request.blob))
        return wire.Plaintext(plaintext=envelope.open_envelope(parent, _cell(request), request.blob))

    async def _accept(self, request: wire.AcceptStorageCredential) -> wire.Reply:
        keys = await self._hierarchy.of(request.tenant_id)
        context = sealing.context("intake", request.tenant_id, request.connection_id)
        try:
            plaintext = sealing.open_sealed(keys.intake_private, request.sealed, context)
        except Unreadable:
            raise Malformed(
                "the credential was not sealed to this tenant's intake key for this connection",
                fix="fetch the intake key again and seal the credential anew",
            ) from None
        _check_credential(plaintext)
        blob = keys.current(Purpose.STORAGE).seal(_credential_cell(request), plaintext)
        return wire.Blob(blob=blob)

    async def _reseal(self, request: wire.ResealStorageCredential) -> wire.Reply:
        agent = self._enrolments.file_agent(request.agent_id, request.tenant_id)
        keys = await self._hierarchy.of(request.tenant_id)
        key = keys.by_id(Purpose.STORAGE, key_id_of(request.blob))
        plaintext = key.open(_credential_cell(request), request.blob)
        context = sealing.context("storage", request.tenant_id, request.connection_id, request.grant_id)
        return wire.Blob(blob=sealing.seal_to(agent.sealing_key, plaintext, context))


def _cell(request: wire.SealValue | wire.OpenValue) -> Cell:
    if not 0 <= request.revision < 1 << 63:
        raise Malformed("a revision is a number from 0", fix="send the revision of the secret")
    return Cell(request.tenant_id, request.table, request.column, request.row_id, request.revision)


def _credential_cell(request: wire.AcceptStorageCredential | wire.ResealStorageCredential) -> Cell:
    return Cell(request.tenant_id, "connections", "credential", request.connection_id)


def _only_vault(purpose: Purpose) -> None:
    if purpose is not Purpose.VAULT:
        raise Denied(
            f"values of purpose {purpose} are not sealed or opened here",
            fix="storage credentials come in sealed to the intake key; other purposes are leased",
        )


def _check_credential(plaintext: bytes) -> None:
    try:
        credential = msgspec.json.decode(plaintext, type=StorageCredential)
    except msgspec.DecodeError:
        credential = None
    if credential is None or not (credential.access_key_id and credential.secret_access_key):
        raise Malformed(
            "the sealed credential is not one",
            fix='seal JSON of the form {"access_key_id": "...", "secret_access_key": "..."}',
        )


def _certificate(issued: Issued) -> wire.Certificate:
    return wire.Certificate(pem=issued.pem, not_after=issued.not_after.timestamp())


def _failure(exc: LimenError) -> wire.Failure:
    return wire.Failure(code=exc.code, message=exc.message, fix=exc.fix)
