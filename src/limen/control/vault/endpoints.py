"""HTTP routes of vault tokens and workloads under ``/api/v1``. The Vault-compatible API is in ``dialect``."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import Depends
from pydantic import Field

from limen.control.vault.model import IssuedToken, Token, Workload
from limen.control.vault.service import VaultService
from limen.control.vault.service.tokens import TokenWish
from limen.kernel.errors import Denied
from limen.kernel.principal import Permission, Principal
from limen.runtime.http import Body, SecureRouter, View, principal, tenant_of

Caller = Annotated[Principal, Depends(principal)]


class NewToken(Body):
    """What the token should be; lifetimes in seconds."""

    ttl: int | None = Field(None, gt=0, strict=True)
    max_ttl: int | None = Field(None, gt=0, strict=True)
    renewable: bool = Field(True, strict=True)
    display: str = Field("", max_length=64)

    def wish(self) -> TokenWish:
        """The same for the service."""
        return TokenWish(ttl=self.ttl, max_ttl=self.max_ttl, renewable=self.renewable, display=self.display)


class NewWorkload(Body):
    """A workload to create."""

    name: str = Field(max_length=63)


class TokenView(View):
    """A token without its secret."""

    id: UUID
    accessor: str
    display: str
    created_at: datetime
    expires_at: datetime
    renewable: bool


class IssuedTokenView(TokenView):
    """A new token; ``token`` is shown this once."""

    token: str


class WorkloadView(View):
    """A workload as the API shows it."""

    id: UUID
    name: str
    state: str
    created_at: datetime


class TokenList(View):
    """One's own live tokens, without their secrets."""

    tokens: list[TokenView]


class WorkloadList(View):
    """Active workloads."""

    workloads: list[WorkloadView]


def _token_view(token: Token) -> TokenView:
    return TokenView(
        id=token.id,
        accessor=token.accessor,
        display=token.display,
        created_at=token.created_at,
        expires_at=token.expires_at,
        renewable=token.renewable,
    )


def _issued_view(issued: IssuedToken) -> IssuedTokenView:
    return IssuedTokenView(token=issued.text, **_token_view(issued.token).model_dump())


def _workload_view(workload: Workload) -> WorkloadView:
    return WorkloadView(id=workload.id, name=workload.name, state=workload.state, created_at=workload.created_at)


def _person_of(who: Principal) -> UUID:
    if who.person_id is None:
        raise Denied("only a person has tokens of their own", fix="sign in as a person of the tenant")
    return who.person_id


def router(vault: VaultService) -> SecureRouter:
    """The routes of ``/vault/tokens`` and ``/workloads``."""
    routes = SecureRouter(tags=["vault"])

    @routes.act("/vault/tokens", Permission.SELF, status_code=201)
    async def create_token(who: Caller, body: NewToken) -> IssuedTokenView:
        return _issued_view(await vault.tokens.issue_to_person(tenant_of(who), _person_of(who), who.actor, body.wish()))

    @routes.read("/vault/tokens", Permission.SELF)
    async def list_tokens(who: Caller) -> TokenList:
        found = await vault.tokens.list_of_person(tenant_of(who), _person_of(who))
        return TokenList(tokens=[_token_view(token) for token in found])

    @routes.remove("/vault/tokens/{token_id}", Permission.SELF, status_code=204)
    async def revoke_token(who: Caller, token_id: UUID) -> None:
        await vault.tokens.revoke_of_person(tenant_of(who), _person_of(who), token_id, who.actor)

    @routes.read("/workloads", Permission.READ_DIRECTORY)
    async def list_workloads(who: Caller) -> WorkloadList:
        found = await vault.workloads.list_active(tenant_of(who))
        return WorkloadList(workloads=[_workload_view(workload) for workload in found])

    @routes.act("/workloads", Permission.MANAGE_DIRECTORY, status_code=201)
    async def create_workload(who: Caller, body: NewWorkload) -> WorkloadView:
        return _workload_view(await vault.workloads.create(tenant_of(who), body.name, who.actor))

    @routes.remove("/workloads/{workload_id}", Permission.MANAGE_DIRECTORY, status_code=204)
    async def remove_workload(who: Caller, workload_id: UUID) -> None:
        await vault.workloads.remove(tenant_of(who), workload_id, who.actor)

    @routes.act("/workloads/{workload_id}/token", Permission.MANAGE_DIRECTORY, status_code=201)
    async def create_workload_token(who: Caller, workload_id: UUID, body: NewToken) -> IssuedTokenView:
        return _issued_view(await vault.tokens.issue_to_workload(tenant_of(who), workload_id, who.actor, body.wish()))

    return routes
