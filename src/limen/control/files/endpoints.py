"""HTTP routes of connections, SFTP users and their keys."""

from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from fastapi import Depends
from pydantic import AwareDatetime, Field

from limen.control.files.model import Connection, Place, Provider, SftpUser, SshKey
from limen.control.files.service import ConnectionService, SftpUserService
from limen.kernel.errors import Malformed
from limen.kernel.principal import Permission, Principal
from limen.runtime.http import Body, SecureRouter, View, principal, tenant_of

Caller = Annotated[Principal, Depends(principal)]
Sources = Annotated[list[Annotated[str, Field(max_length=64)]], Field(max_length=32)]


class IntakeKeyView(View):
    """The X25519 key (base64) to which a storage credential is sealed before it is sent."""

    public_key: str


class NewConnection(Body):
    """A connection to make. S3: bucket, endpoint (none for AWS), region; local: root. Prefix bounds it."""

    name: str = Field(max_length=64)
    provider: Literal["s3", "local"]
    endpoint: str = Field("", max_length=255)
    bucket: str = Field("", max_length=63)
    region: str = Field("", max_length=63)
    prefix: str = Field("", max_length=512)
    root: str = Field("", max_length=255)


class CredentialBody(Body):
    """A storage credential, sealed to the intake key for this tenant and connection, in base64."""

    sealed: str = Field(max_length=24 * 1024)


class ConnectionView(View):
    """A connection; ``slug`` is the last part of its SSH user names."""

    id: UUID
    name: str
    slug: str
    provider: str
    endpoint: str
    bucket: str
    region: str
    prefix: str
    root: str
    has_credential: bool
    created_at: datetime


class ConnectionList(View):
    """Connections, by name."""

    connections: list[ConnectionView]


class NewSftpUser(Body):
    """A way into a connection for a person. No actions means all; no sources means from anywhere (password)."""

    connection_id: UUID
    person_id: UUID
    username: str = Field(max_length=64)
    jail: str = Field("", max_length=512)
    actions: list[str] = Field([], max_length=4)
    sources: Sources = []


class SftpUserView(View):
    """An SFTP user; ``login`` is what goes before the ``@``."""

    id: UUID
    connection_id: UUID
    person_id: UUID
    username: str
    login: str
    jail: str
    actions: list[str]
    sources: list[str]
    has_password: bool
    created_at: datetime


class SftpUserList(View):
    """SFTP users."""

    users: list[SftpUserView]


class NewKey(Body):
    """An OpenSSH public key line."""

    public_key: str = Field(max_length=8192)
    sources: Sources = []
    expires_at: AwareDatetime | None = None


class KeyView(View):
    """A key of an SFTP user."""

    id: UUID
    public_key: str
    fingerprint: str
    sources: list[str]
    expires_at: datetime | None


class KeyList(View):
    """The keys of one SFTP user."""

    keys: list[KeyView]


class NewPassword(Body):
    """A password of one's own choice; without one a random one is made."""

    password: str | None = Field(None, max_length=1024)


class PasswordView(View):
    """The password, shown this once."""

    password: str


def connection_view(connection: Connection) -> ConnectionView:
    """Render one connection."""
    place = connection.place
    return ConnectionView(
        id=connection.id,
        name=connection.name,
        slug=connection.slug,
        provider=place.provider,
        endpoint=place.endpoint,
        bucket=place.bucket,
        region=place.region,
        prefix=place.prefix,
        root=place.root,
        has_credential=connection.has_credential,
        created_at=connection.created_at,
    )


def user_view(user: SftpUser, slugs: dict[UUID, str]) -> SftpUserView:
    """Render one SFTP user; ``slugs`` by connection id."""
    return SftpUserView(
        id=user.id,
        connection_id=user.connection_id,
        person_id=user.person_id,
        username=user.username,
        login=f"{user.username}.{slugs.get(user.connection_id, '')}",
        jail=user.jail,
        actions=sorted(user.actions),
        sources=list(user.sources),
        has_password=user.password_hash is not None,
        created_at=user.created_at,
    )


def key_view(key: SshKey) -> KeyView:
    """Render one key."""
    return KeyView(
        id=key.id,
        public_key=key.public_key,
        fingerprint=key.fingerprint,
        sources=list(key.sources),
        expires_at=key.expires_at,
    )


def router(connections: ConnectionService, users: SftpUserService) -> SecureRouter:
    """The routes under ``/connections`` and ``/sftp-users``."""
    routes = SecureRouter(tags=["files"])
    _connection_routes(routes, connections)
    _user_routes(routes, connections, users)
    _credential_routes(routes, users)
    return routes


def _connection_routes(routes: SecureRouter, connections: ConnectionService) -> None:
    @routes.read("/connections/intake-key", Permission.MANAGE_RESOURCES)
    async def intake_key(who: Caller) -> IntakeKeyView:
        return IntakeKeyView(public_key=b64encode(await connections.intake_key(tenant_of(who))).decode())

    @routes.read("/connections", Permission.READ_RESOURCES)
    async def list_connections(who: Caller) -> ConnectionList:
        found = await connections.list_all(tenant_of(who))
        return ConnectionList(connections=[connection_view(one) for one in found])

    @routes.act("/connections", Permission.MANAGE_RESOURCES, status_code=201)
    async def create_connection(who: Caller, body: NewConnection) -> ConnectionView:
        place = Place(Provider(body.provider), body.endpoint, body.bucket, body.region, body.prefix, body.root)
        return connection_view(await connections.create(tenant_of(who), who.actor, body.name, place))

    @routes.replace("/connections/{connection_id}/credential", Permission.MANAGE_RESOURCES, status_code=204)
    async def set_credential(who: Caller, connection_id: UUID, body: CredentialBody) -> None:
        try:
            sealed = b64decode(body.sealed, validate=True)
        except (Base64Error, ValueError):
            raise Malformed("the sealed credential is not base64", fix="seal it with the command line tool") from None
        await connections.set_credential(tenant_of(who), who.actor, connection_id, sealed)

    @routes.remove("/connections/{connection_id}", Permission.MANAGE_RESOURCES, status_code=204)
    async def remove_connection(who: Caller, connection_id: UUID) -> None:
        await connections.remove(tenant_of(who), who.actor, connection_id)


def _user_routes(routes: SecureRouter, connections: ConnectionService, users: SftpUserService) -> None:
    async def slugs(tenant_id: UUID) -> dict[UUID, str]:
        return {one.id: one.slug for one in await connections.list_all(tenant_id)}

    @routes.read("/sftp-users", Permission.READ_RESOURCES)
    async def list_users(who: Caller, connection_id: UUID | None = None) -> SftpUserList:
        tenant_id = tenant_of(who)
        names = await slugs(tenant_id)
        found = await users.list_all(tenant_id, connection_id)
        return SftpUserList(users=[user_view(user, names) for user in found])

    @routes.act("/sftp-users", Permission.MANAGE_DIRECTORY, status_code=201)
    async def create_user(who: Caller, body: NewSftpUser) -> SftpUserView:
        tenant_id = tenant_of(who)
        made = await users.create(
            tenant_id,
            who.actor,
            connection_id=body.connection_id,
            person_id=body.person_id,
            username=body.username,
            jail=body.jail,
            actions=body.actions,
            sources=body.sources,
        )
        return user_view(made, await slugs(tenant_id))

    @routes.remove("/sftp-users/{user_id}", Permission.MANAGE_DIRECTORY, status_code=204)
    async def remove_user(who: Caller, user_id: UUID) -> None:
        await users.remove(tenant_of(who), who.actor, user_id)


def _credential_routes(routes: SecureRouter, users: SftpUserService) -> None:
    @routes.read("/sftp-users/{user_id}/keys", Permission.READ_RESOURCES)
    async def list_keys(who: Caller, user_id: UUID) -> KeyList:
        return KeyList(keys=[key_view(key) for key in await users.keys(tenant_of(who), user_id)])

    @routes.act("/sftp-users/{user_id}/keys", Permission.MANAGE_DIRECTORY, status_code=201)
    async def add_key(who: Caller, user_id: UUID, body: NewKey) -> KeyView:
        key = await users.add_key(
            tenant_of(who), who.actor, user_id, body.public_key, sources=body.sources, expires_at=body.expires_at
        )
        return key_view(key)

    @routes.remove("/sftp-users/{user_id}/keys/{key_id}", Permission.MANAGE_DIRECTORY, status_code=204)
    async def remove_key(who: Caller, user_id: UUID, key_id: UUID) -> None:
        await users.remove_key(tenant_of(who), who.actor, user_id, key_id)

    @routes.replace("/sftp-users/{user_id}/password", Permission.MANAGE_DIRECTORY)
    async def set_password(who: Caller, user_id: UUID, body: NewPassword) -> PasswordView:
        return PasswordView(password=await users.set_password(tenant_of(who), who.actor, user_id, body.password))

    @routes.remove("/sftp-users/{user_id}/password", Permission.MANAGE_DIRECTORY, status_code=204)
    async def clear_password(who: Caller, user_id: UUID) -> None:
        await users.clear_password(tenant_of(who), who.actor, user_id)
