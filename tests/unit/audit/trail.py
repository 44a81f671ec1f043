"""An audit trail in memory, made by the real rules: events in, export lines and a checkpoint file out."""

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from limen.control.audit.export import Window
from limen.control.audit.model import AuditEvent, Member, Outcome, SealedStep, SignedCheckpoint
from limen.control.audit.rules import chain, leaf, lines
from limen.crypto import merkle, signatures
from limen.kernel.principal import Actor, ActorKind

START = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
ACTIONS = ("identity.person.suspend", "vault.secret.read", "network.flow.open")


@dataclass(frozen=True)
class Stored:
    """What the database keeps of one record."""

    id: UUID
    at: datetime
    action: str
    leaf: bytes
    salts: bytes
    values: leaf.Values | None


def event(number: int = 0) -> AuditEvent:
    """An event that uses every field."""
    return AuditEvent(
        ACTIONS[number % len(ACTIONS)],
        Outcome.DENIED if number % 3 else Outcome.OK,
        Actor(ActorKind.PERSON, uuid4(), f"198.51.100.{number % 250}"),
        "person",
        uuid4(),
        {"count": number, "again": bool(number % 2), "why": None, "note": "naïve “text”"},
        {"email": f"person{number}@example.org"},
    )


@dataclass
class Trail:
    """One installation: tenants, their seals, one key. Time goes one second per step."""

    seed: bytes = field(default_factory=lambda: os.urandom(32))
    now: datetime = START
    pending: list[tuple[UUID, Stored]] = field(default_factory=list)
    chain_head: chain.ChainHead = field(default_factory=chain.ChainHead)
    heads: dict[UUID, chain.TenantHead] = field(default_factory=dict)
    sealed: dict[UUID, list[tuple[SealedStep, list[Stored]]]] = field(default_factory=dict)
    outside: list[bytes] = field(default_factory=list)

    @property
    def public_key(self) -> bytes:
        return signatures.public_of(self.seed)

    def record(self, tenant: UUID, what: AuditEvent) -> Stored:
        """Write down one event."""
        self.now += timedelta(seconds=1)
        record_id, salts, values = uuid4(), leaf.new_salts(), leaf.values_of(what)
        encoded = leaf.encode(tenant, record_id, self.now, action=what.action, salts=salts, values=values)
        stored = Stored(record_id, self.now, what.action, encoded, salts, values)
        self.pending.append((tenant, stored))
        return stored

    def seal(self) -> SignedCheckpoint:
        """Seal everything pending."""
        by_id = {stored.id: stored for _, stored in self.pending}
        step = chain.plan_step(
            [(tenant, Member(s.at, s.id, merkle.leaf_hash(s.leaf))) for tenant, s in self.pending],
            self.heads,
            self.chain_head,
            now=self.now,
            signing_key_id=chain.key_id(self.public_key),
        )
        message = chain.checkpoint_bytes(step.checkpoint)
        signed = SignedCheckpoint(step.checkpoint, signatures.sign(self.seed, chain.SIGNING_PURPOSE, message))
        for planned in step.seals:
            tenant = planned.seal.tenant_id
            self.heads[tenant] = chain.TenantHead(
                planned.seal.number, planned.seal.before + planned.seal.count, planned.hash
            )
            records = [by_id[member.id] for member in planned.members]
            self.sealed.setdefault(tenant, []).append((SealedStep(planned.seal, planned.proof, signed), records))
        self.chain_head = chain.ChainHead(
            step.checkpoint.number, step.checkpoint.at, chain.checkpoint_hash(step.checkpoint)
        )
        under = [(planned.seal.tenant_id, planned.seal.number, planned.hash) for planned in step.seals]
        self.outside.append(lines.line(lines.checkpoint_line(signed, under)))
        self.pending.clear()
        return signed

    def grow(self, tenants: Iterable[UUID], batches: Iterable[int]) -> None:
        """For each batch: that many records of each tenant, then a seal."""
        tenants = list(tenants)
        for batch in batches:
            for tenant in tenants:
                for number in range(batch):
                    self.record(tenant, event(number))
            self.seal()

    def export(self, tenant: UUID, window: Window | None = None) -> list[dict[str, Any]]:
        """The lines of an export, as objects."""
        window = window or Window()
        out = [lines.header(tenant, self.public_key, self.now, since=window.since, until=window.until)]
        records = 0
        steps = self.sealed[tenant]
        for step, stored in steps:
            if not window.meets(step.seal.first_at, step.seal.last_at):
                out.append(lines.seal_line(step, None, with_checkpoint=step is steps[-1][0]))
                continue
            members = [Member(s.at, s.id, merkle.leaf_hash(s.leaf)) for s in stored]
            out.append(lines.seal_line(step, members, with_checkpoint=True))
            for number, s in enumerate(stored, start=step.seal.before + 1):
                shown = {"id": str(s.id), "at": lines.time_text(s.at), "action": s.action}
                opened = (s.values, s.salts) if s.values is not None and window.has(s.at) else None
                out.append(lines.record_line(number, s.leaf, opened, shown))
                records += 1
        out.append(lines.end_line(records, len(steps)))
        return out

    def kept(self, tenant: UUID) -> dict[str, Any]:
        """The tenant's newest checkpoint, to keep elsewhere."""
        return lines.step(self.sealed[tenant][-1][0])


def text(objects: Iterable[dict[str, Any]]) -> bytes:
    """The bytes of an export."""
    return b"".join(lines.line(item) for item in objects)


__all__ = ["START", "Stored", "Trail", "event", "text"]
