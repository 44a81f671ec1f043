"""Use cases of SFTP users and their credentials. Removing or changing a credential ends its grants."""

import secrets
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from limen.control.audit.model import AuditEvent, Outcome
from limen.control.audit.service import record
from limen.control.files import rules, store
from limen.control.files.model import SftpUser, SshKey
from limen.control.files.service.connections import no_connection
from limen.control.identity.service import IdentityService
from limen.db.database import Database, Tx
from limen.kernel.clock import Clock
from limen.kernel.errors import Conflict, Malformed, NotFound
from limen.kernel.facts import Fact, FactKind
from limen.kernel.ids import new_id
from limen.kernel.principal import Actor

RANDOM_PASSWORD_BYTES = 18
MAX_KEYS = 32


class SftpUserService:
    """SFTP users of a tenant."""

    def __init__(self, database: Database, identity: IdentityService, clock: Clock) -> None:
        self._database = database
        self._identity = identity
        self._clock = clock

    async def create(
        self,
        tenant_id: UUID,
        actor: Actor,
        *,
        connection_id: UUID,
        person_id: UUID,
        username: str,
        jail: str = "",
        actions: Sequence[str] = (),
        sources: Sequence[str] = (),
    ) -> SftpUser:
        """Give a person a way into a connection; it still needs a key or a password, and a policy.

        Raises:
            Malformed: a field is wrong.
            NotFound: no such connection or person in this tenant.
            Conflict: the user name is taken within the connection.
        """
        made = SftpUser(
            tenant_id=tenant_id,
            id=new_id(),
            connection_id=connection_id,
            person_id=person_id,
            username=rules.checked_username(username),
            jail=rules.checked_prefix(jail, "jail"),
            actions=rules.checked_actions(actions),
            sources=rules.checked_sources(sources),
            created_at=self._clock.now(),
        )
        async with self._database.transaction(tenant_id) as tx:
            if await store.connection(tx, connection_id) is None:
                raise no_connection()
            if await self._identity.principal_kind(tx, person_id) != "person":
                raise NotFound("no such person", fix="list them with 'limen person list'")
            if not await store.insert_user(tx, made):
                raise Conflict("this user name is taken in this connection", fix="choose another")
            await self._record(tx, actor, "create", made)
        return made

    async def list_all(self, tenant_id: UUID, connection_id: UUID | None = None) -> list[SftpUser]:
        """SFTP users, of one connection or all."""
        async with self._database.transaction(tenant_id) as tx:
            return await store.users(tx, connection_id)

    async def remove(self, tenant_id: UUID, actor: Actor, user_id: UUID) -> None:
        """Remove an SFTP user with its credentials; what they opened ends.

        Raises:
            NotFound: no such SFTP user.
        """
        async with self._database.transaction(tenant_id) as tx:
            found = await self._found(tx, user_id)
            credentials = [user_id, *(key.id for key in await store.keys(tx, user_id))]
            await store.delete_user(tx, user_id)
            for credential_id in credentials:
                tx.fact_changed(Fact(FactKind.CREDENTIAL, credential_id))
            await self._record(tx, actor, "remove", found)

    async def set_password(self, tenant_id: UUID, actor: Actor, user_id: UUID, password: str | None) -> str:
        """Set a password, a random one when none is given, and return it; sessions of the former one end.

        Raises:
            NotFound: no such SFTP user.
            Malformed: the password is too short.
            Unavailable: too many passwords are hashed at once.
        """
        chosen = secrets.token_urlsafe(RANDOM_PASSWORD_BYTES) if password is None else password
        encoded = await self._identity.hasher.hash(rules.checked_password(chosen))
        await self._replace_password(tenant_id, actor, user_id, encoded, "set-password")
        return chosen

    async def clear_password(self, tenant_id: UUID, actor: Actor, user_id: UUID) -> None:
        """Take the password away; its sessions end.

        Raises:
            NotFound: no such SFTP user.
        """
        await self._replace_password(tenant_id, actor, user_id, None, "clear-password")

    async def add_key(
        self,
        tenant_id: UUID,
        actor: Actor,
        user_id: UUID,
        public_key: str,
        *,
        sources: Sequence[str] = (),
        expires_at: datetime | None = None,
    ) -> SshKey:
        """Accept an SSH key for a user.

        Raises:
            NotFound: no such SFTP user.
            Malformed: not a public key that is accepted, or expired.
            Conflict: the user has this key, or too many.
        """
        line, fingerprint = rules.parsed_key(public_key)
        now = self._clock.now()
        if expires_at is not None and expires_at <= now:
            raise Malformed("the key would have expired already", fix="give a later time")
        key = SshKey(tenant_id, new_id(), user_id, line, fingerprint, rules.checked_sources(sources), expires_at, now)
        async with self._database.transaction(tenant_id) as tx:
            found = await self._found(tx, user_id)
            if len(await store.keys(tx, user_id)) >= MAX_KEYS:
                raise Conflict(f"a user has at most {MAX_KEYS} keys", fix="remove one first")
            if not await store.insert_key(tx, key):
                raise Conflict("the user has this key already", fix="remove it first to change its limits")
            await self._record(tx, actor, "add-key", found, {"key": str(key.id), "fingerprint": fingerprint})
        return key

    async def keys(self, tenant_id: UUID, user_id: UUID) -> list[SshKey]:
        """The keys of a user.

        Raises:
            NotFound: no such SFTP user.
        """
        async with self._database.transaction(tenant_id) as tx:
            await self._found(tx, user_id)
            return await store.keys(tx, user_id)

    async def remove_key(self, tenant_id: UUID, actor: Actor, user_id: UUID, key_id: UUID) -> None:
        """Take a key away; its sessions end.

        Raises:
            NotFound: no such SFTP user or key.
        """
        async with self._database.transaction(tenant_id) as tx:
            found = await self._found(tx, user_id)
            if not await store.delete_key(tx, user_id, key_id):
                raise NotFound("no such key", fix="list them with 'limen sftp-user keys'")
            tx.fact_changed(Fact(FactKind.CREDENTIAL, key_id))
            await self._record(tx, actor, "remove-key", found, {"key": str(key_id)})

    async def _replace_password(
        self, tenant_id: UUID, actor: Actor, user_id: UUID, encoded: str | None, verb: str
    ) -> None:
        async with self._database.transaction(tenant_id) as tx:
            found = await self._found(tx, user_id)
            await store.set_password(tx, user_id, encoded)
            tx.fact_changed(Fact(FactKind.CREDENTIAL, user_id))
            await self._record(tx, actor, verb, found)

    async def _found(self, tx: Tx, user_id: UUID) -> SftpUser:
        found = await store.user(tx, user_id)
        if found is None:
            raise NotFound("no such SFTP user", fix="list them with 'limen sftp-user list'")
        return found

    async def _record(
        self, tx: Tx, actor: Actor, verb: str, user: SftpUser, more: dict[str, str | int | bool | None] | None = None
    ) -> None:
        event = AuditEvent(
            action=f"files.user.{verb}",
            outcome=Outcome.OK,
            actor=actor,
            object_kind="sftp-user",
            object_id=user.id,
            detail={"connection": str(user.connection_id), "person": str(user.person_id), **(more or {})},
            personal={"username": user.username},
        )
        await record(tx, event, self._clock.now())
