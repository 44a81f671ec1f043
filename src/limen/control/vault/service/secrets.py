"""Reading and changing secrets. Every method authorises first, works, and leaves exactly one record of the use.

A change runs in one transaction with its record; before the commit it looks at its grant again and holds it. A
change that fails for the caller's reasons (check-and-set, nothing there, grant ended) is rolled back and recorded as
failed or denied.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar
from uuid import UUID

import msgspec

from limen.control.audit.model import AuditEvent, DetailValue, Outcome
from limen.control.audit.service import record
from limen.control.vault.errors import NothingThere, VersionGone
from limen.control.vault.model import (
    Head,
    MetadataChange,
    Passage,
    Presented,
    Reading,
    SecretMetadata,
    Version,
    Written,
)
from limen.control.vault.ports import ValueCustody
from limen.control.vault.rules import parameters, paths, versions
from limen.control.vault.service.door import Door
from limen.control.vault.service.ledger import UseLedger
from limen.control.vault.store import secrets as store
from limen.control.vault.store.secrets import StoredSecret
from limen.db.database import Database, Tx
from limen.db.ports import FieldCipher
from limen.kernel.access import Action
from limen.kernel.clock import Clock
from limen.kernel.errors import Denied, Malformed, NotFound
from limen.wire.keyd import Purpose

_BLOB = ("vault_versions", "blob")
_CUSTOM = ("vault_secrets", "custom_metadata")
_Change = Callable[[Head, Version], Version]
T = TypeVar("T")


@dataclass(slots=True)
class Use:
    """What a use touched, filled in while it runs, for its record."""

    tag: str
    path: str
    secret_id: UUID | None = None
    detail: dict[str, DetailValue] = field(default_factory=dict)

    def event(self, passage: Passage, outcome: Outcome) -> AuditEvent:
        """The record of this use."""
        return AuditEvent(
            action=self.tag,
            outcome=outcome,
            actor=passage.bearer.actor,
            object_kind="secret",
            object_id=self.secret_id,
            detail={
                "mount": passage.mount,
                "token": passage.bearer.token.accessor,
                "grant": str(passage.grant_id),
                **self.detail,
            },
            personal={"path": self.path},
        )


class SecretService:
    """KV v2: the use cases."""

    def __init__(
        self,
        database: Database,
        cipher: FieldCipher,
        door: Door,
        ledger: UseLedger,
        custody: ValueCustody,
        clock: Clock,
    ) -> None:
        self._database = database
        self._cipher = cipher
        self._door = door
        self._ledger = ledger
        self._custody = custody
        self._clock = clock

    # --- read ---------------------------------------------------------------------------------------------

    async def read(self, presented: Presented, mount: str, path: str, version: int = 0) -> Reading:
        """One version of a secret, the current one for 0.

        Raises:
            NothingThere: when there is no such secret or version.
            VersionGone: when it is deleted or destroyed.
            Malformed, TokenRefused, PassageRefused, RateLimited, Unavailable.
        """
        use = Use("vault.secret.read", paths.checked_path(path))
        passage, found = await self._door.reading(presented, mount, path, version)
        if found is None:
            await self._settle(use, passage, Outcome.FAILED, "nothing there")
            raise NothingThere
        use.secret_id, use.detail = found.secret_id, {"version": found.version.number}
        custom = await self._opened(passage.tenant_id, found.secret_id, found.custom_metadata)
        if found.blob is None or not found.version.readable(self._clock.now()):
            await self._settle(use, passage, Outcome.FAILED, "deleted or destroyed")
            raise VersionGone(Reading(found.version, custom, None))
        value = await self._unseal(passage.tenant_id, found.secret_id, found.version.number, found.blob)
        await self._ledger.settle(passage.tenant_id, use.event(passage, Outcome.OK), passage.grant_id)
        return Reading(found.version, custom, value)

    async def metadata(self, presented: Presented, mount: str, path: str) -> SecretMetadata:
        """A secret's settings and versions.

        Raises:
            NothingThere: when there is no such secret.
            Malformed, TokenRefused, PassageRefused, RateLimited, Unavailable.
        """

        async def work(tx: Tx, passage: Passage, use: Use) -> SecretMetadata:
            secret = await self._there(tx, passage, use)
            custom = await self._opened(tx.tenant_id, secret.id, secret.custom_metadata)
            return SecretMetadata(secret.head, custom, tuple(await store.versions(tx, secret.id)))

        use = Use("vault.metadata.read", paths.checked_path(path))
        return await self._using(presented, mount, Action.READ, use, work)

    async def children(
        self, presented: Presented, mount: str, folder: str, after: str = "", limit: int | None = None
    ) -> list[str]:
        """What lies directly below a folder, in byte order; folders end in ``/``.

        Raises:
            NothingThere: when nothing does.
            Malformed, TokenRefused, PassageRefused, RateLimited, Unavailable.
        """
        prefix = paths.checked_folder(folder)

        async def work(tx: Tx, passage: Passage, use: Use) -> list[str]:
            names = await store.children(tx, passage.mount_id, prefix, after, limit)
            if not names:
                raise NothingThere
            use.detail["names"] = len(names)
            return names

        return await self._using(presented, mount, Action.LIST, Use("vault.secret.list", prefix), work)

    # --- write --------------------------------------------------------------------------------------------

    async def write(self, presented: Presented, mount: str, path: str, value: bytes, cas: int | None) -> Written:
        """Add a version holding ``value`` (JSON text).

        Raises:
            CasMismatch, CasRequired: see ``rules.versions``.
            Malformed, TokenRefused, PassageRefused, RateLimited, Unavailable.
        """

        async def work(tx: Tx, passage: Passage, use: Use) -> Written:
            secret = await self._there_or_new(tx, passage, use)
            return await self._add(tx, secret, value, cas, use)

        use = Use("vault.secret.write", paths.checked_path(path))
        return await self._using(presented, mount, Action.WRITE, use, work)

    async def patch(
        self, presented: Presented, mount: str, path: str, merge: Callable[[bytes], bytes], cas: int | None
    ) -> Written:
        """Add a version holding the current value after ``merge``.

        Raises:
            NothingThere: when the secret has no version.
            VersionGone: when its current version is deleted or destroyed.
            CasMismatch, CasRequired: see ``rules.versions``.
            Malformed, TokenRefused, PassageRefused, RateLimited, Unavailable.
        """

        async def work(tx: Tx, passage: Passage, use: Use) -> Written:
            secret = await self._there(tx, passage, use, lock=True)
            number = secret.head.current_version
            current = await store.versions(tx, secret.id, [number])
            versions.check_cas(secret.head, cas)
            if not current:
                raise NothingThere
            blob = await store.blob(tx, secret.id, number)
            if blob is None or not current[0].readable(self._clock.now()):
                custom = await self._opened(tx.tenant_id, secret.id, secret.custom_metadata)
                raise VersionGone(Reading(current[0], custom, None))
            value = merge(await self._unseal(tx.tenant_id, secret.id, number, blob))
            return await self._add(tx, secret, value, cas, use)

        use = Use("vault.secret.patch", paths.checked_path(path))
        return await self._using(presented, mount, Action.WRITE, use, work)

    async def set_metadata(
        self, presented: Presented, mount: str, path: str, change: MetadataChange, *, create: bool = True
    ) -> None:
        """Change a secret's settings, making the secret when it does not exist and ``create``.

        Raises:
            NothingThere: when there is no such secret and ``create`` is False.
            Malformed, TokenRefused, PassageRefused, RateLimited, Unavailable.
        """

        async def work(tx: Tx, passage: Passage, use: Use) -> None:
            if create and change.empty:
                return
            if create:
                secret = await self._there_or_new(tx, passage, use)
            else:
                secret = await self._there(tx, passage, use, lock=True)
            await store.update(tx, secret.id, versions.change_settings(secret.head, change, self._clock.now()))
            custom = change.custom_metadata
            if change.custom_patch is not None:
                current = await self._opened(tx.tenant_id, secret.id, secret.custom_metadata)
                custom = parameters.patched_custom(current, change.custom_patch)
            if custom is not None:
                await store.set_custom_metadata(tx, secret.id, await self._sealed_custom(tx, secret.id, custom))

        use = Use("vault.metadata.write", paths.checked_path(path))
        await self._using(presented, mount, Action.WRITE, use, work)

    # --- remove -------------------------------------------------------------------------------------------

    async def delete_current(self, presented: Presented, mount: str, path: str) -> None:
        """Mark the current version deleted. Nothing there is as good as done."""
        use = Use("vault.secret.delete", paths.checked_path(path))
        await self._marking(presented, mount, use, None, lambda _, version: versions.delete(version, self._clock.now()))

    async def delete(self, presented: Presented, mount: str, path: str, numbers: tuple[int, ...]) -> None:
        """Mark versions deleted."""
        use = Use("vault.secret.delete", paths.checked_path(path))
        await self._marking(
            presented, mount, use, numbers, lambda _, version: versions.delete(version, self._clock.now())
        )

    async def undelete(self, presented: Presented, mount: str, path: str, numbers: tuple[int, ...]) -> None:
        """Take deletions back. Asks for write, since it brings a value back into use."""
        use = Use("vault.secret.undelete", paths.checked_path(path))
        await self._marking(
            presented,
            mount,
            use,
            numbers,
            lambda head, version: versions.undelete(head, version, self._clock.now()),
            Action.WRITE,
        )

    async def destroy(self, presented: Presented, mount: str, path: str, numbers: tuple[int, ...]) -> None:
        """Destroy versions: their ciphertext, and with it their data key, is gone from the database."""
        use = Use("vault.secret.destroy", paths.checked_path(path))
        await self._marking(presented, mount, use, numbers, lambda _, version: versions.destroy(version))

    async def delete_all(self, presented: Presented, mount: str, path: str) -> None:
        """Delete a secret with all versions and settings. Nothing there is as good as done."""

        async def work(tx: Tx, passage: Passage, use: Use) -> None:
            secret = await store.find(tx, passage.mount_id, use.path, lock=True)
            use.detail["found"] = secret is not None
            if secret is not None:
                use.secret_id = secret.id
                await store.delete(tx, secret.id)

        use = Use("vault.metadata.delete", paths.checked_path(path))
        await self._using(presented, mount, Action.DELETE, use, work)

    # --- parts --------------------------------------------------------------------------------------------

    async def _using(
        self,
        presented: Presented,
        mount: str,
        action: Action,
        use: Use,
        work: Callable[[Tx, Passage, Use], Awaitable[T]],
    ) -> T:
        """Authorise, run ``work`` in a transaction, hold the grant, and record the use with it."""
        passage = await self._door.passage(presented, mount, action)
        try:
            async with self._database.transaction(passage.tenant_id) as tx:
                result = await work(tx, passage, use)
                # Last, so that a slow custody daemon never keeps a suspension waiting for this transaction.
                await self._door.hold(tx, passage)
                await record(tx, use.event(passage, Outcome.OK), self._clock.now())
        except Denied as exc:
            await self._settle(use, passage, Outcome.DENIED, exc.code)
            raise
        except (NotFound, Malformed) as exc:
            await self._settle(use, passage, Outcome.FAILED, exc.code)
            raise
        return result

    async def _marking(
        self,
        presented: Presented,
        mount: str,
        use: Use,
        numbers: tuple[int, ...] | None,
        change: _Change,
        action: Action = Action.DELETE,
    ) -> None:
        async def work(tx: Tx, passage: Passage, use: Use) -> None:
            secret = await store.find(tx, passage.mount_id, use.path, lock=True)
            use.detail["found"] = secret is not None
            if secret is None:
                return
            use.secret_id = secret.id
            wanted = (secret.head.current_version,) if numbers is None else numbers
            present = await store.versions(tx, secret.id, wanted)
            changed = [after for before in present if (after := change(secret.head, before)) != before]
            use.detail["versions"] = ",".join(str(version.number) for version in changed)
            if changed:
                await store.save_versions(tx, secret.id, changed)

        await self._using(presented, mount, action, use, work)

    async def _settle(self, use: Use, passage: Passage, outcome: Outcome, reason: str) -> None:
        use.detail["reason"] = reason
        await self._ledger.settle(passage.tenant_id, use.event(passage, outcome))

    async def _there(self, tx: Tx, passage: Passage, use: Use, *, lock: bool = False) -> StoredSecret:
        secret = await store.find(tx, passage.mount_id, use.path, lock=lock)
        if secret is None:
            raise NothingThere
        use.secret_id = secret.id
        return secret

    async def _there_or_new(self, tx: Tx, passage: Passage, use: Use) -> StoredSecret:
        secret = await store.find(tx, passage.mount_id, use.path, lock=True)
        if secret is None:
            secret = await store.insert(tx, passage.mount_id, use.path, versions.fresh(self._clock.now()))
        if secret is None:  # another writer was first; it has committed
            return await self._there(tx, passage, use, lock=True)
        use.secret_id = secret.id
        return secret

    async def _add(self, tx: Tx, secret: StoredSecret, value: bytes, cas: int | None, use: Use) -> Written:
        planned = versions.write(secret.head, cas, self._clock.now())
        number = planned.version.number
        use.detail["version"] = number
        blob = await self._custody.seal_value(
            tx.tenant_id,
            Purpose.VAULT,
            table=_BLOB[0],
            column=_BLOB[1],
            row_id=secret.id,
            revision=number,
            plaintext=value,
        )
        await store.update(tx, secret.id, planned.head)
        await store.add_version(tx, secret.id, planned.version, blob, planned.head.oldest_version)
        return Written(planned.version, await self._opened(tx.tenant_id, secret.id, secret.custom_metadata))

    async def _unseal(self, tenant_id: UUID, secret_id: UUID, number: int, blob: bytes) -> bytes:
        return await self._custody.open_value(
            tenant_id,
            Purpose.VAULT,
            table=_BLOB[0],
            column=_BLOB[1],
            row_id=secret_id,
            revision=number,
            blob=blob,
        )

    async def _opened(self, tenant_id: UUID, secret_id: UUID, sealed: bytes | None) -> dict[str, str] | None:
        if sealed is None:
            return None
        cipher = await self._cipher.for_tenant(tenant_id)
        return msgspec.json.decode(cipher.open(*_CUSTOM, secret_id, sealed), type=dict[str, str])

    async def _sealed_custom(self, tx: Tx, secret_id: UUID, custom: Mapping[str, str]) -> bytes | None:
        if not custom:
            return None
        return await tx.seal(*_CUSTOM, secret_id, msgspec.json.encode(dict(custom)))
