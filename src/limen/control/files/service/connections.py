"""Use cases of connections: make, list, give a credential, remove."""

import secrets
from uuid import UUID

from limen.control.audit.model import AuditEvent, Outcome
from limen.control.audit.service import record
from limen.control.files import rules, store
from limen.control.files.model import Connection, Place, Provider
from limen.control.files.ports import StorageCustody
from limen.control.resources.service import ResourcesService
from limen.db.database import Database, Tx
from limen.kernel.access import ResourceKind
from limen.kernel.clock import Clock
from limen.kernel.errors import Malformed, NotFound
from limen.kernel.principal import Actor

MAX_SEALED_BYTES = 16 * 1024


def no_connection() -> NotFound:
    """The error for a connection that this tenant does not have."""
    return NotFound("no such connection", fix="list them with 'limen resource list'")


class ConnectionService:
    """Connections of a tenant."""

    def __init__(self, database: Database, resources: ResourcesService, custody: StorageCustody, clock: Clock) -> None:
        self._database = database
        self._resources = resources
        self._custody = custody
        self._clock = clock

    async def intake_key(self, tenant_id: UUID) -> bytes:
        """The X25519 key to which a user's tool seals a storage credential.

        Raises:
            Unavailable: when custody does not answer.
        """
        return await self._custody.intake_key(tenant_id)

    async def create(self, tenant_id: UUID, actor: Actor, name: str, place: Place) -> Connection:
        """Make a connection; an S3 one is of use only once it has a credential.

        Raises:
            Malformed: name or place are wrong.
            Conflict: the name is taken.
        """
        place = rules.checked_place(place)
        async with self._database.transaction(tenant_id) as tx:
            resource = await self._resources.create(tx, actor, ResourceKind.BUCKET, name, {})
            made = Connection(
                tenant_id=tenant_id,
                id=resource.id,
                name=resource.name,
                slug=rules.slug_of(secrets.token_bytes(rules.SLUG_BYTES)),
                place=place,
                has_credential=False,
                created_at=self._clock.now(),
            )
            await store.insert_connection(tx, made)
            await self._record(tx, actor, "create", made.id, {"provider": str(place.provider), "slug": made.slug})
        return made

    async def set_credential(self, tenant_id: UUID, actor: Actor, connection_id: UUID, sealed: bytes) -> None:
        """Take a credential that was sealed to the intake key for this connection.

        Raises:
            NotFound: no such connection.
            Malformed: it is too long, or custody cannot open it for this tenant and connection.
            Unavailable: custody does not answer.
        """
        if len(sealed) > MAX_SEALED_BYTES:
            raise Malformed("the sealed credential is too long", fix="seal the JSON document of one access key")
        async with self._database.transaction(tenant_id) as tx:
            found = await store.connection(tx, connection_id)
        if found is None:
            raise no_connection()
        if found.place.provider is Provider.LOCAL:
            raise Malformed("a local folder takes no credential", fix="leave it out")
        blob = await self._custody.accept_storage_credential(tenant_id, connection_id, sealed)
        async with self._database.transaction(tenant_id) as tx:
            if not await store.set_credential(tx, connection_id, blob):
                raise no_connection()
            await self._record(tx, actor, "set-credential", connection_id, {})

    async def list_all(self, tenant_id: UUID) -> list[Connection]:
        """All connections of the tenant."""
        async with self._database.transaction(tenant_id) as tx:
            return await store.connections(tx)

    async def remove(self, tenant_id: UUID, actor: Actor, connection_id: UUID) -> None:
        """Remove a connection with its SFTP users; its grants end.

        Raises:
            NotFound: no such connection.
        """
        async with self._database.transaction(tenant_id) as tx:
            if await store.connection(tx, connection_id) is None:
                raise no_connection()
            await self._resources.remove(tx, actor, connection_id)
            await self._record(tx, actor, "remove", connection_id, {})

    async def _record(
        self, tx: Tx, actor: Actor, verb: str, connection_id: UUID, detail: dict[str, str | int | bool | None]
    ) -> None:
        event = AuditEvent(f"files.connection.{verb}", Outcome.OK, actor, "connection", connection_id, detail)
        await record(tx, event, self._clock.now())
