"""Use cases of joining: make a one-time token, enrol with it, renew a certificate that ran out.

Enrolment is one transaction: the token is spent, the address taken, the agent stored, the audit record written, and
keyd asked for the certificate; if any of it fails, nothing has happened and the token is still good. keyd keeps
its own record; when our commit fails after keyd has answered, that record is withdrawn, and if even that fails
the certificate opens nothing, since the agent is not on record here.
"""

import secrets
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from hmac import compare_digest
from uuid import UUID

import structlog

from limen.control.audit.model import AuditEvent, Outcome
from limen.control.audit.service import record
from limen.control.devices import rules
from limen.control.devices.errors import ExpiredToken, UnknownToken, UsedToken, WrongKey
from limen.control.devices.model import Agent, AgentState, TokenRecord
from limen.control.devices.ports import AgentAuthority
from limen.control.devices.service.certificates import check_proof, check_sealing_key
from limen.control.devices.store import platform, tenant
from limen.db.database import Database, SystemRole
from limen.kernel.clock import Clock
from limen.kernel.errors import Denied, LimenError, Malformed, NotFound
from limen.kernel.ids import new_id
from limen.kernel.principal import Actor, ActorKind, Permission, Principal
from limen.wire.agent import AgentKind
from limen.wire.enrolment import (
    TOKEN_LIFETIME_SECONDS,
    Enrolled,
    EnrolmentToken,
    EnrolRequest,
    RenewedCertificate,
    RenewRequest,
    enrol_statement,
    parse_token,
    renew_statement,
)
from limen.wire.keyd import Certificate

MAX_SOFTWARE_CHARACTERS = 64

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """How agents reach this control plane.

    ``server`` is ``https://host:port`` of the API, ``channel_url`` ``wss://host:port/agent``; ``authorities_pem``
    is the file served at ``AUTHORITIES_PATH``, which must verify both.
    """

    server: str
    channel_url: str
    authorities_pem: bytes


@dataclass(frozen=True, slots=True)
class NewToken:
    """A fresh token; ``text`` is shown once and stored nowhere."""

    id: UUID
    kind: AgentKind
    name: str
    text: str
    expires_at: datetime


class EnrolmentService:
    """Tokens in, certified agents out."""

    def __init__(self, database: Database, authority: AgentAuthority, address: ServerAddress, clock: Clock) -> None:
        self._database = database
        self._authority = authority
        self._address = address
        self._clock = clock

    async def create_enrolment_token(self, who: Principal, kind: AgentKind, name: str, *, site: str = "") -> NewToken:
        """A token for a gateway of the caller's tenant, or for a client device of the caller.

        Raises:
            Denied: when the caller may not, or the kind belongs to the platform.
            Malformed: on a bad name.
        """
        if who.tenant_id is None or who.person_id is None:
            raise Denied("only people of a tenant can enrol its agents", fix="sign in as a person")
        if kind in rules.PLATFORM_KINDS:
            raise Denied(f"{kind} agents serve the whole platform", fix="ask a platform operator for a token")
        if kind is not AgentKind.CLIENT and not who.may(Permission.MANAGE_AGENTS):
            raise Denied(f"your role does not include '{Permission.MANAGE_AGENTS}'", fix="ask an owner of your tenant")
        person_id = who.person_id if kind is AgentKind.CLIENT else None
        token, made = self._make_token(who.tenant_id, kind, name, person_id, site)
        async with self._database.transaction(who.tenant_id) as tx:
            await tenant.insert_token(tx, made, who.person_id)
            event = AuditEvent(
                "devices.token.create",
                Outcome.OK,
                who.actor,
                "enrolment-token",
                made.id,
                {"kind": str(kind), "name": made.name},
            )
            await record(tx, event, made.created_at)
        return NewToken(made.id, kind, made.name, token.text(), made.expires_at)

    async def create_platform_token(self, who: Principal, kind: AgentKind, name: str) -> NewToken:
        """A token for an agent that serves all tenants.

        Raises:
            Denied: when the caller is no operator, or the kind belongs to tenants.
        """
        if who.operator_id is None:
            raise Denied("only platform operators enrol platform agents", fix="sign in as an operator")
        if kind not in rules.PLATFORM_KINDS:
            raise Denied(f"{kind} agents belong to a tenant", fix="make the token as a person of the tenant")
        token, made = self._make_token(None, kind, name, None, "")
        async with self._database.system(SystemRole.PLATFORM) as tx:
            await platform.insert_token(tx, made, who.operator_id)
        _log.info("platform enrolment token made", token_id=str(made.id), operator_id=str(who.operator_id))
        return NewToken(made.id, kind, made.name, token.text(), made.expires_at)

    async def enrol(self, request: EnrolRequest, source: str) -> Enrolled:
        """Turn a good token into a certified agent. ``source`` is the caller's address.

        Raises:
            WrongClock: the agent's clock is more than 30 s off.
            UnknownToken, UsedToken, ExpiredToken: the token is not good.
            WrongKey: the keys are not usable or not proved, or enrolled already.
            Malformed: the token is damaged or for another kind.
            Unavailable: keyd or the database does not answer; the token is still good.
        """
        now = self._clock.now()
        token = parse_token(request.token)
        rules.check_clock(request.now, now)
        if token.kind is not request.kind:
            raise Malformed(f"this token is for a {token.kind} agent", fix=f"run: limen {token.kind}")
        check_sealing_key(request.sealing_key)
        statement = enrol_statement(token.token_id, request.sealing_key)
        check_proof(request.identity_key, request.proof, statement)
        agent_id = new_id()
        asked: list[UUID] = []
        try:
            if token.tenant_id is None:
                return await self._enrol_platform(request, token, agent_id, now, asked)
            return await self._enrol_tenant(token.tenant_id, request, token, agent_id, now, source, asked)
        except BaseException as exc:
            if asked:
                with suppress(LimenError):
                    await self._authority.remove_agent(agent_id)
            if isinstance(exc, UnknownToken | UsedToken | ExpiredToken) and token.tenant_id is not None:
                await self._record_failure(token.tenant_id, token.token_id, exc, source, now)
            raise

    async def renew(self, request: RenewRequest) -> RenewedCertificate:
        """A fresh certificate for an agent whose old one ran out, proved with its enrolled key.

        Raises:
            NotFound: no such active agent with this key.
            WrongClock: the agent's clock is more than 30 s off.
            WrongKey: the proof does not fit.
        """
        now = self._clock.now()
        rules.check_clock(request.now, now)
        check_proof(request.identity_key, request.proof, renew_statement(request.agent_id, request.now))
        spki = sha256(request.identity_key).digest()
        if request.tenant_id is None:
            async with self._database.system(SystemRole.PLATFORM) as system:
                _check_renewal(await platform.find_agent(system, request.agent_id), spki)
            certificate = await self._authority.renew_agent(request.agent_id)
            return _renewed(certificate)
        async with self._database.transaction(request.tenant_id) as tx:
            agent = _check_renewal(await tenant.find_agent(tx, request.agent_id), spki)
            certificate = await self._authority.renew_agent(agent.id)
            await record(tx, renewal_event(agent), now)
        return _renewed(certificate)

    def _make_token(
        self, tenant_id: UUID | None, kind: AgentKind, name: str, person_id: UUID | None, site: str
    ) -> tuple[EnrolmentToken, TokenRecord]:
        now = self._clock.now()
        token = EnrolmentToken(
            tenant_id=tenant_id,
            token_id=new_id(),
            kind=kind,
            secret=secrets.token_bytes(32),
            server=self._address.server,
            authorities_sha256=sha256(self._address.authorities_pem).digest(),
        )
        made = TokenRecord(
            id=token.token_id,
            tenant_id=tenant_id,
            kind=kind,
            name=rules.checked_name(name),
            secret_hash=token.secret_hash,
            created_at=now,
            expires_at=now + timedelta(seconds=TOKEN_LIFETIME_SECONDS),
            person_id=person_id,
            site=rules.checked_name(site) if site else "",
        )
        return token, made

    async def _enrol_tenant(
        self,
        tenant_id: UUID,
        request: EnrolRequest,
        token: EnrolmentToken,
        agent_id: UUID,
        now: datetime,
        source: str,
        asked: list[UUID],
    ) -> Enrolled:
        async with self._database.transaction(tenant_id) as tx:
            spent = await tenant.spend_token(tx, token.token_id, token.kind, token.secret_hash, now)
            if spent is None:
                raise _why_not(await tenant.find_token(tx, token.token_id), token, now)
            host = await tenant.take_tunnel_host(tx) if spent.kind in rules.TUNNEL_KINDS else None
            agent = _new_agent(agent_id, request, spent, now, host)
            if not await tenant.insert_agent(tx, agent, host):
                raise _known_key()
            await record(tx, _enrolment_event(agent, spent, source), now)
            asked.append(agent_id)
            certificate = await self._certify(agent, request)
        return self._enrolled(agent, certificate)

    async def _enrol_platform(
        self, request: EnrolRequest, token: EnrolmentToken, agent_id: UUID, now: datetime, asked: list[UUID]
    ) -> Enrolled:
        async with self._database.system(SystemRole.PLATFORM) as tx:
            spent = await platform.spend_token(tx, token.token_id, token.kind, token.secret_hash, now)
            if spent is None:
                raise _why_not(await platform.find_token(tx, token.token_id), token, now)
            agent = _new_agent(agent_id, request, spent, now, None)
            if not await platform.insert_agent(tx, agent, None):
                raise _known_key()
            asked.append(agent_id)
            certificate = await self._certify(agent, request)
        _log.info("platform agent enrolled", agent_id=str(agent_id), kind=str(agent.kind))
        return self._enrolled(agent, certificate)

    async def _certify(self, agent: Agent, request: EnrolRequest) -> Certificate:
        return await self._authority.enrol_agent(
            agent.id, agent.tenant_id, agent.kind, request.identity_key, request.sealing_key
        )

    def _enrolled(self, agent: Agent, certificate: Certificate) -> Enrolled:
        return Enrolled(
            agent_id=agent.id,
            tenant_id=agent.tenant_id,
            kind=agent.kind,
            name=agent.name,
            certificate_pem=certificate.pem.decode("ascii"),
            not_after=certificate.not_after,
            channel_url=self._address.channel_url,
            tunnel_address=agent.tunnel_address,
        )

    async def _record_failure(
        self, tenant_id: UUID, token_id: UUID, why: LimenError, source: str, now: datetime
    ) -> None:
        """Audit a refused attempt, but only on a token that exists: strangers must not fill the trail."""
        async with self._database.transaction(tenant_id) as tx:
            if await tenant.find_token(tx, token_id) is None:
                return
            actor = Actor(ActorKind.ANONYMOUS, None, source)
            event = AuditEvent(
                "devices.agent.enrol", Outcome.DENIED, actor, "enrolment-token", token_id, {"reason": why.code}
            )
            await record(tx, event, now)


def renewal_event(agent: Agent) -> AuditEvent:
    """The audit record of a renewed certificate."""
    return AuditEvent("devices.certificate.renew", Outcome.OK, Actor(ActorKind.AGENT, agent.id), "agent", agent.id)


def _enrolment_event(agent: Agent, token: TokenRecord, source: str) -> AuditEvent:
    return AuditEvent(
        "devices.agent.enrol",
        Outcome.OK,
        Actor(ActorKind.AGENT, agent.id, source),
        "agent",
        agent.id,
        {
            "kind": str(agent.kind),
            "name": agent.name,
            "token": str(token.id),
            "spki_sha256": agent.spki_sha256.hex(),
            "person": None if agent.person_id is None else str(agent.person_id),
        },
    )


def _new_agent(agent_id: UUID, request: EnrolRequest, token: TokenRecord, now: datetime, host: int | None) -> Agent:
    return Agent(
        id=agent_id,
        tenant_id=token.tenant_id,
        kind=token.kind,
        name=token.name,
        spki_sha256=sha256(request.identity_key).digest(),
        sealing_key=request.sealing_key,
        state=AgentState.ACTIVE,
        enrolled_at=now,
        person_id=token.person_id,
        site=token.site,
        tunnel_address="" if host is None else rules.tunnel_address(host),
        software=request.software[:MAX_SOFTWARE_CHARACTERS],
    )


def _why_not(found: TokenRecord | None, token: EnrolmentToken, now: datetime) -> LimenError:
    if found is None or not compare_digest(found.secret_hash, token.secret_hash):
        return UnknownToken()
    if found.kind is not token.kind:  # the text was altered
        return UnknownToken()
    if found.used_at is not None:
        return UsedToken()
    if found.expires_at <= now:
        return ExpiredToken()
    raise AssertionError("a good token was not accepted")


def _known_key() -> WrongKey:
    return WrongKey("this key is enrolled already", fix="enrol from an empty state directory")


def _check_renewal(agent: Agent | None, spki_sha256: bytes) -> Agent:
    if agent is None or agent.state is not AgentState.ACTIVE or agent.spki_sha256 != spki_sha256:
        raise NotFound(
            "this agent is not enrolled, or was removed", fix="enrol it again with a new token (limen agent token)"
        )
    return agent


def _renewed(certificate: Certificate) -> RenewedCertificate:
    return RenewedCertificate(certificate_pem=certificate.pem.decode("ascii"), not_after=certificate.not_after)
