"""HTTP routes of agents: tokens, enrolment, renewal, the list, removal; and the public file of authorities."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import msgspec
from fastapi import Request
from pydantic import Field
from starlette.responses import Response
from starlette.routing import Route

from limen.control.devices.model import Agent
from limen.control.devices.service import AgentHub, AgentRegistry, EnrolmentService, NewToken
from limen.kernel.principal import Permission
from limen.runtime.http import Body, SecureRouter, View, principal, source_of
from limen.wire.agent import AgentKind
from limen.wire.codec import decode
from limen.wire.enrolment import AUTHORITIES_PATH, MAX_TOKEN_CHARACTERS, EnrolRequest, RenewRequest

_MAX_KEY_TEXT = 512
_MAX_NOW = 1e11


class NewTokenBody(Body):
    """An agent to come. A client belongs to the person who asks; a gateway takes ``agents.manage``."""

    kind: Literal["gateway", "client"]
    name: str = Field(max_length=63)
    site: str = Field("", max_length=63)


class NewPlatformTokenBody(Body):
    """A platform agent to come."""

    kind: Literal["sftp"]
    name: str = Field(max_length=63)


class TokenView(View):
    """A fresh token; ``token`` is shown this once."""

    id: UUID
    kind: str
    name: str
    token: str
    expires_at: datetime


class EnrolBody(Body):
    """``limen.wire.enrolment.EnrolRequest``; keys and proof in base64, ``now`` in Unix seconds."""

    type: Literal["enrol"] = "enrol"
    token: str = Field(max_length=MAX_TOKEN_CHARACTERS)
    kind: Literal["gateway", "client", "sftp"]
    identity_key: str = Field(max_length=_MAX_KEY_TEXT)
    sealing_key: str = Field(max_length=_MAX_KEY_TEXT)
    proof: str = Field(max_length=_MAX_KEY_TEXT)
    software: str = Field(max_length=200)
    now: float = Field(ge=0, le=_MAX_NOW, allow_inf_nan=False)


class EnrolledView(View):
    """``limen.wire.enrolment.Enrolled``."""

    type: Literal["enrolled"]
    agent_id: UUID
    tenant_id: UUID | None
    kind: str
    name: str
    certificate_pem: str
    not_after: float
    channel_url: str
    tunnel_address: str


class RenewBody(Body):
    """``limen.wire.enrolment.RenewRequest``."""

    type: Literal["renew-request"] = "renew-request"
    tenant_id: UUID | None
    agent_id: UUID
    identity_key: str = Field(max_length=_MAX_KEY_TEXT)
    proof: str = Field(max_length=_MAX_KEY_TEXT)
    now: float = Field(ge=0, le=_MAX_NOW, allow_inf_nan=False)


class RenewedView(View):
    """``limen.wire.enrolment.RenewedCertificate``."""

    type: Literal["renewed-certificate"]
    certificate_pem: str
    not_after: float


class AgentView(View):
    """An agent as people see it. ``fingerprint`` is the SHA-256 of its public key, in hex."""

    id: UUID
    kind: str
    name: str
    site: str
    person_id: UUID | None
    fingerprint: str
    tunnel_address: str
    software: str
    connected: bool
    enrolled_at: datetime
    last_seen_at: datetime | None


class AgentList(View):
    """Active agents, oldest first."""

    agents: list[AgentView]


def router(enrolment: EnrolmentService, registry: AgentRegistry, hub: AgentHub) -> SecureRouter:
    """The routes under ``/agents`` and ``/platform/agents``."""
    routes = SecureRouter(tags=["agents"])
    _tenant_routes(routes, enrolment, registry, hub)
    _public_routes(routes, enrolment)
    _platform_routes(routes, enrolment, registry, hub)
    return routes


def authorities_route(authorities_pem: bytes) -> Route:
    """``GET /.well-known/limen-ca.pem``: what agents trust, pinned by the hash in their token. Public."""

    async def authorities(_request: Request) -> Response:
        return Response(authorities_pem, media_type="application/x-pem-file")

    return Route(AUTHORITIES_PATH, authorities, methods=["GET"])


def _tenant_routes(routes: SecureRouter, enrolment: EnrolmentService, registry: AgentRegistry, hub: AgentHub) -> None:
    @routes.act("/agents/tokens", Permission.SELF, status_code=201)
    async def create_token(request: Request, body: NewTokenBody) -> TokenView:
        """A one-time token, good for 15 minutes: for a device of your own, or for a gateway."""
        made = await enrolment.create_enrolment_token(
            principal(request), AgentKind(body.kind), body.name, site=body.site
        )
        return _token_view(made)

    @routes.read("/agents", Permission.SELF)
    async def list_agents(request: Request) -> AgentList:
        """The agents of your tenant; without ``agents.read`` only your own devices."""
        found = await registry.list_agents(principal(request))
        return AgentList(agents=[_agent_view(agent, hub) for agent in found])

    @routes.remove("/agents/{agent_id}", Permission.SELF, status_code=204)
    async def remove_agent(request: Request, agent_id: UUID) -> None:
        """Remove an agent at once; without ``agents.manage`` only a device of your own."""
        await registry.remove_agent(principal(request), agent_id)


def _public_routes(routes: SecureRouter, enrolment: EnrolmentService) -> None:
    @routes.act("/agents/enrol", Permission.PUBLIC)
    async def enrol(request: Request, body: EnrolBody) -> EnrolledView:
        """Turn a one-time token into a certified agent. The token is the authorization."""
        wanted: EnrolRequest = _as_wire(body, EnrolRequest)
        return EnrolledView(**_builtins(await enrolment.enrol(wanted, source_of(request))))

    @routes.act("/agents/renew", Permission.PUBLIC)
    async def renew(body: RenewBody) -> RenewedView:
        """A fresh certificate for an enrolled key. The signature is the authorization."""
        wanted: RenewRequest = _as_wire(body, RenewRequest)
        return RenewedView(**_builtins(await enrolment.renew(wanted)))


def _platform_routes(routes: SecureRouter, enrolment: EnrolmentService, registry: AgentRegistry, hub: AgentHub) -> None:
    @routes.act("/platform/agents/tokens", Permission.OPERATE_PLATFORM, status_code=201)
    async def create_platform_token(request: Request, body: NewPlatformTokenBody) -> TokenView:
        """A one-time token for an agent that serves all tenants."""
        made = await enrolment.create_platform_token(principal(request), AgentKind(body.kind), body.name)
        return _token_view(made)

    @routes.read("/platform/agents", Permission.OPERATE_PLATFORM)
    async def list_platform_agents(request: Request) -> AgentList:
        """The platform's agents."""
        found = await registry.list_agents(principal(request))
        return AgentList(agents=[_agent_view(agent, hub) for agent in found])

    @routes.remove("/platform/agents/{agent_id}", Permission.OPERATE_PLATFORM, status_code=204)
    async def remove_platform_agent(request: Request, agent_id: UUID) -> None:
        """Remove an agent of the platform at once."""
        await registry.remove_agent(principal(request), agent_id)


def _as_wire(body: Body, kind: type[Any]) -> Any:
    """The same body as the wire's own struct, which decodes base64 and checks the rest."""
    return decode(body.model_dump_json(), kind)


def _builtins(message: object) -> Mapping[str, Any]:
    found: dict[str, Any] = msgspec.to_builtins(message, builtin_types=(UUID,))
    return found


def _token_view(made: NewToken) -> TokenView:
    return TokenView(id=made.id, kind=made.kind, name=made.name, token=made.text, expires_at=made.expires_at)


def _agent_view(agent: Agent, hub: AgentHub) -> AgentView:
    return AgentView(
        id=agent.id,
        kind=agent.kind,
        name=agent.name,
        site=agent.site,
        person_id=agent.person_id,
        fingerprint=agent.spki_sha256.hex(),
        tunnel_address=agent.tunnel_address,
        software=agent.software,
        connected=hub.session(agent.id) is not None,
        enrolled_at=agent.enrolled_at,
        last_seen_at=agent.last_seen_at,
    )
