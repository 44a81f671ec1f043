"""``/sign-in``, ``/sign-out``, ``/me``, ``/setup``, ``/people``, ``/groups``, ``/sessions``."""

from datetime import datetime
from uuid import UUID

from fastapi import Request, Response
from pydantic import Field

from limen.control.identity.model import Group, Person, SessionKind
from limen.control.identity.service import IdentityService
from limen.kernel.errors import Malformed
from limen.kernel.principal import PERMISSIONS_OF_ROLE, Permission, Role
from limen.runtime.http import (
    Body,
    SecureRouter,
    View,
    clear_session_cookie,
    principal,
    set_session_cookie,
    source_of,
)

_PASSWORD = Field(min_length=1, max_length=1024, json_schema_extra={"writeOnly": True})
_EMAIL = Field(max_length=320)


class SignInBody(Body):
    """``tenant`` may be left out on the tenant's own host name. ``cookie`` asks for a browser session."""

    tenant: str = Field(default="", max_length=63)
    email: str = _EMAIL
    password: str = _PASSWORD
    cookie: bool = False


class SignedIn(View):
    """``token`` is empty when the session came as a cookie; ``csrf_token`` is for cookie sessions only."""

    token: str
    csrf_token: str
    expires_at: datetime
    person: UUID
    session: UUID


class SetUpBody(Body):
    """``email`` and ``name`` are those of a tenant's first owner; other links know theirs."""

    token: str = Field(max_length=200)
    password: str = _PASSWORD
    email: str = Field(default="", max_length=320)
    name: str = Field(default="", max_length=400)


class PersonView(View):
    """A person."""

    id: UUID
    email: str
    name: str
    role: Role
    state: str
    created_at: datetime


class InvitedView(PersonView):
    """A new person; ``setup_token`` is shown this once and sets their password (24 hours)."""

    setup_token: str


class Me(View):
    """The signed-in person, what they may do, and their session."""

    person: PersonView
    tenant: UUID
    permissions: list[str]
    session: UUID
    session_expires_at: datetime
    csrf_token: str


class PeopleList(View):
    """People."""

    people: list[PersonView]


class NewPerson(Body):
    """A person to invite."""

    email: str = _EMAIL
    name: str = Field(max_length=400)
    role: Role = Role.MEMBER


class RoleBody(Body):
    """A role to give."""

    role: Role


class LinkView(View):
    """A one-time link's token, shown this once (24 hours)."""

    setup_token: str


class NewGroup(Body):
    """A group to make."""

    name: str = Field(max_length=400)


class GroupView(View):
    """A group with its explicit members; the built-in one holds everyone without listing them."""

    id: UUID
    name: str
    builtin: bool
    created_at: datetime
    members: list[UUID]


class GroupList(View):
    """Groups."""

    groups: list[GroupView]


class PasswordBody(Body):
    """One's own password, old and new."""

    current: str = _PASSWORD
    new: str = _PASSWORD


class SessionView(View):
    """A live session."""

    id: UUID
    person: UUID
    kind: SessionKind
    method: str
    source: str
    created_at: datetime
    expires_at: datetime
    current: bool


class SessionList(View):
    """Live sessions."""

    sessions: list[SessionView]


def routers(identity: IdentityService) -> list[SecureRouter]:
    """All routes of identity."""
    return [_sign_in_routes(identity), _own_routes(identity), _people_routes(identity), _group_routes(identity)]


def _sign_in_routes(identity: IdentityService) -> SecureRouter:
    routes = SecureRouter(tags=["sign-in"])

    @routes.act("/sign-in", Permission.PUBLIC)
    async def sign_in(request: Request, response: Response, body: SignInBody) -> SignedIn:
        """Sign in with e-mail and password."""
        slug: str | None = request.state.tenant_slug
        if slug and body.tenant and body.tenant != slug:
            raise Malformed("this host name belongs to another tenant", fix="leave the tenant out here")
        tenant = slug or body.tenant
        if not tenant:
            raise Malformed("which tenant?", fix="give the tenant's slug")
        kind = SessionKind.COOKIE if body.cookie else SessionKind.BEARER
        issued = await identity.sign_in_password(tenant, body.email, body.password, source_of(request), kind)
        if body.cookie:
            set_session_cookie(response, issued.token, issued.expires_at)
        return SignedIn(
            token="" if body.cookie else issued.token,
            csrf_token=issued.csrf_token if body.cookie else "",
            expires_at=issued.expires_at,
            person=issued.person_id,
            session=issued.session_id,
        )

    @routes.act("/setup", Permission.PUBLIC, status_code=201)
    async def set_up(request: Request, body: SetUpBody) -> PersonView:
        """Use a one-time link: become a tenant's first owner, or set one's password."""
        person = await identity.passwords.set_up(body.token, body.password, source_of(request), body.email, body.name)
        return _person_view(person)

    @routes.act("/sign-out", Permission.SELF, status_code=204)
    async def sign_out(request: Request, response: Response) -> None:
        """End the session that this request came with."""
        await identity.sessions.sign_out(principal(request))
        clear_session_cookie(response)

    return routes


def _own_routes(identity: IdentityService) -> SecureRouter:
    routes = SecureRouter(tags=["own account"])

    @routes.read("/me", Permission.SELF)
    async def me(request: Request) -> Me:
        """Who is signed in, and what they may do."""
        who = principal(request)
        assert who.person_id is not None
        assert who.tenant_id is not None
        assert who.session_id is not None
        assert who.role is not None
        return Me(
            person=_person_view(await identity.directory.get_person(who, who.person_id)),
            tenant=who.tenant_id,
            permissions=sorted(PERMISSIONS_OF_ROLE[who.role]),
            session=who.session_id,
            session_expires_at=request.state.session_expires_at,
            csrf_token=request.state.csrf_token,
        )

    @routes.act("/me/password", Permission.SELF, status_code=204)
    async def change_password(request: Request, body: PasswordBody) -> None:
        """Change one's own password; one's other sessions end."""
        await identity.passwords.change(principal(request), body.current, body.new)

    @routes.read("/sessions", Permission.SELF)
    async def list_sessions(request: Request) -> SessionList:
        """Live sessions: one's own, or the tenant's with the permission to read grants."""
        who = principal(request)
        return SessionList(
            sessions=[
                SessionView(
                    id=s.id,
                    person=s.person_id,
                    kind=s.kind,
                    method=s.method.value,
                    source=s.source,
                    created_at=s.created_at,
                    expires_at=s.expires_at,
                    current=s.id == who.session_id,
                )
                for s in await identity.sessions.list(who)
            ]
        )

    @routes.remove("/sessions/{session_id}", Permission.SELF, status_code=204)
    async def end_session(request: Request, session_id: UUID) -> None:
        """End one's own session, or another's with the permission to revoke."""
        await identity.sessions.end(principal(request), session_id)

    return routes


def _people_routes(identity: IdentityService) -> SecureRouter:
    routes = SecureRouter(tags=["people"])
    directory = identity.directory

    @routes.read("/people", Permission.READ_DIRECTORY)
    async def list_people(request: Request, search: str = "") -> PeopleList:
        """Everyone, or those whose name or address contains ``search``."""
        who = principal(request)
        people = await (directory.search_people(who, search) if search else directory.list_people(who))
        return PeopleList(people=[_person_view(person) for person in people])

    @routes.act("/people", Permission.MANAGE_DIRECTORY, status_code=201)
    async def create_person(request: Request, body: NewPerson) -> InvitedView:
        """Invite a person; the answer holds their one-time set-up token."""
        invited = await directory.create_person(principal(request), body.email, body.name, body.role)
        return InvitedView(**dict(_person_view(invited.person)), setup_token=invited.setup_token)

    @routes.read("/people/{person_id}", Permission.READ_DIRECTORY)
    async def get_person(request: Request, person_id: UUID) -> PersonView:
        """One person."""
        return _person_view(await directory.get_person(principal(request), person_id))

    @routes.replace("/people/{person_id}/role", Permission.MANAGE_DIRECTORY)
    async def set_role(request: Request, person_id: UUID, body: RoleBody) -> PersonView:
        """Change a person's role; their sessions end."""
        return _person_view(await directory.set_role(principal(request), person_id, body.role))

    @routes.act("/people/{person_id}/reset-link", Permission.MANAGE_DIRECTORY, status_code=201)
    async def reset_link(request: Request, person_id: UUID) -> LinkView:
        """A fresh one-time link with which the person sets their password."""
        return LinkView(setup_token=await directory.reset_link(principal(request), person_id))

    @routes.remove("/people/{person_id}", Permission.MANAGE_DIRECTORY, status_code=204)
    async def remove_person(request: Request, person_id: UUID) -> None:
        """Remove a person; their sessions end."""
        await directory.remove_person(principal(request), person_id)

    return routes


def _group_routes(identity: IdentityService) -> SecureRouter:
    routes = SecureRouter(tags=["groups"])
    directory = identity.directory

    @routes.read("/groups", Permission.READ_DIRECTORY)
    async def list_groups(request: Request) -> GroupList:
        """All groups, by name."""
        return GroupList(groups=[_group_view(g) for g in await directory.list_groups(principal(request))])

    @routes.act("/groups", Permission.MANAGE_DIRECTORY, status_code=201)
    async def create_group(request: Request, body: NewGroup) -> GroupView:
        """Make a group."""
        return _group_view(await directory.create_group(principal(request), body.name))

    @routes.remove("/groups/{group_id}", Permission.MANAGE_DIRECTORY, status_code=204)
    async def delete_group(request: Request, group_id: UUID) -> None:
        """Delete a group."""
        await directory.delete_group(principal(request), group_id)

    @routes.act("/groups/{group_id}/members/{person_id}", Permission.MANAGE_DIRECTORY, status_code=204)
    async def add_member(request: Request, group_id: UUID, person_id: UUID) -> None:
        """Put a person into a group."""
        await directory.add_member(principal(request), group_id, person_id)

    @routes.remove("/groups/{group_id}/members/{person_id}", Permission.MANAGE_DIRECTORY, status_code=204)
    async def remove_member(request: Request, group_id: UUID, person_id: UUID) -> None:
        """Take a person out of a group."""
        await directory.remove_member(principal(request), group_id, person_id)

    return routes


def _person_view(person: Person) -> PersonView:
    return PersonView(
        id=person.id,
        email=person.email,
        name=person.name,
        role=person.role,
        state=person.state.value,
        created_at=person.created_at,
    )


def _group_view(group: Group) -> GroupView:
    return GroupView(
        id=group.id,
        name=group.name,
        builtin=group.builtin,
        created_at=group.created_at,
        members=sorted(group.member_ids),
    )
