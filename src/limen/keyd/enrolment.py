"""keyd's own enrolment records: which agents exist, with which keys, so that it decides itself whom it
re-seals to.

Rules: an agent id has one identity key for ever; enrolling it again with the same particulars is harmless,
with any others a conflict; a removed agent stays on record as removed, so its id can never come back with
another key.
"""

from datetime import datetime
from hashlib import sha256
from uuid import UUID

import msgspec

from limen.crypto import sealing
from limen.kernel.errors import Conflict, Denied, Malformed, NotFound
from limen.keyd.authority import p256_key
from limen.keyd.keystore import Keystore, Record, Shelf
from limen.wire.agent import AgentKind


class AgentRecord(Record, frozen=True, kw_only=True):
    """One agent. ``tenant_id`` is None for platform agents; ``spki_sha256`` is in hex; times are Unix seconds."""

    agent_id: UUID
    tenant_id: UUID | None
    kind: AgentKind
    identity_key: bytes
    spki_sha256: str
    sealing_key: bytes
    enrolled_at: float
    removed_at: float | None = None


class Enrolments:
    """The records, read from the keystore on each use: there is nothing to get out of step."""

    def __init__(self, keystore: Keystore) -> None:
        self._keystore = keystore

    def enrol(
        self,
        agent_id: UUID,
        tenant_id: UUID | None,
        kind: str,
        identity_key: bytes,
        sealing_key: bytes,
        now: datetime,
    ) -> AgentRecord:
        """Put an agent on record.

        Raises:
            Malformed: on an unknown kind, a bad key, or a tenant agent without a tenant.
            Conflict: when the id is on record with other particulars, or was removed.
        """
        fresh = AgentRecord(
            agent_id=agent_id,
            tenant_id=tenant_id,
            kind=_kind(kind, tenant_id),
            identity_key=identity_key,
            spki_sha256=_fingerprint(identity_key),
            sealing_key=sealing_key,
            enrolled_at=now.timestamp(),
        )
        sealing.check_public_key(sealing_key)
        known = self._read(agent_id)
        if known is None:
            self._keystore.write(Shelf.AGENTS, str(agent_id), fresh)
            return fresh
        if known.removed_at is not None:
            raise Conflict("this agent was removed", fix="enrol it anew with a new token")
        if msgspec.structs.replace(known, enrolled_at=fresh.enrolled_at) != fresh:
            raise Conflict("this agent is enrolled with another key", fix="enrol it anew with a new token")
        return known

    def active(self, agent_id: UUID) -> AgentRecord:
        """The record of an agent that was not removed.

        Raises:
            NotFound: when there is none.
        """
        record = self._read(agent_id)
        if record is None or record.removed_at is not None:
            raise NotFound("no such agent is enrolled", fix="enrol it with a new token")
        return record

    def file_agent(self, agent_id: UUID, tenant_id: UUID) -> AgentRecord:
        """An agent that may receive storage credentials of ``tenant_id``.

        Raises:
            NotFound: when it is not enrolled.
            Denied: when it is no file agent, or another tenant's.
        """
        record = self.active(agent_id)
        if record.kind is not AgentKind.SFTP or record.tenant_id not in (None, tenant_id):
            raise Denied("this agent may not receive storage credentials", fix="use an enrolled file agent")
        return record

    def remove(self, agent_id: UUID, now: datetime) -> None:
        """Mark an agent as removed; does nothing when it is not on record or was removed before."""
        record = self._read(agent_id)
        if record is not None and record.removed_at is None:
            removed = msgspec.structs.replace(record, removed_at=now.timestamp())
            self._keystore.write(Shelf.AGENTS, str(agent_id), removed)

    def _read(self, agent_id: UUID) -> AgentRecord | None:
        return self._keystore.read(Shelf.AGENTS, str(agent_id), AgentRecord)


def _kind(kind: str, tenant_id: UUID | None) -> AgentKind:
    try:
        known = AgentKind(kind)
    except ValueError:
        raise Malformed("unknown kind of agent", fix="use gateway, client or sftp") from None
    if tenant_id is None and known is not AgentKind.SFTP:
        raise Malformed(f"a {known} belongs to a tenant", fix="enrol it with a token of that tenant")
    return known


def _fingerprint(identity_key: bytes) -> str:
    p256_key(identity_key)
    return sha256(identity_key).hexdigest()
