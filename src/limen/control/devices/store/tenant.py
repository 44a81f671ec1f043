"""Agents, enrolment tokens and tunnel addresses of one tenant, each statement in the caller's transaction."""

from datetime import datetime
from uuid import UUID

from limen.control.devices.model import Agent, AgentState, TokenRecord
from limen.control.devices.rules import MAX_TUNNEL_HOST, tunnel_address
from limen.db.database import Row, Tx
from limen.wire.agent import AgentKind

_AGENT = (
    "id, tenant_id, kind, name, site, person_id, spki_sha256, sealing_key, tunnel_host, software, state, "
    "enrolled_at, last_seen_at, removed_at"
)


async def insert_token(tx: Tx, token: TokenRecord, created_by: UUID) -> None:
    """Store a fresh token, and forget those that ended before it was made."""
    await tx.execute(
        "DELETE FROM enrolment_tokens WHERE tenant_id = %s AND expires_at < %s - interval '1 day'",
        [tx.tenant_id, token.created_at],
    )
    await tx.execute(
        "INSERT INTO enrolment_tokens (tenant_id, id, kind, name, site, person_id, secret_hash, created_by, "
        "created_at, expires_at) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
        [
            tx.tenant_id,
            token.id,
            token.kind,
            token.name,
            token.site,
            token.person_id,
            token.secret_hash,
            created_by,
            token.created_at,
            token.expires_at,
        ],
    )


async def spend_token(tx: Tx, token_id: UUID, kind: AgentKind, secret_hash: bytes, now: datetime) -> TokenRecord | None:
    """Mark a good token as used; None when it is not good. Of any number of callers one gets the record."""
    row = await tx.fetch_one(
        "UPDATE enrolment_tokens SET used_at = %s WHERE tenant_id = %s AND id = %s AND kind = %s AND secret_hash = %s "
        "AND used_at IS NULL AND expires_at > %s RETURNING *",
        [now, tx.tenant_id, token_id, kind, secret_hash, now],
    )
    return None if row is None else _token(row)


async def find_token(tx: Tx, token_id: UUID) -> TokenRecord | None:
    """A token, good or not."""
    row = await tx.fetch_one(
        "SELECT * FROM enrolment_tokens WHERE tenant_id = %s AND id = %s", [tx.tenant_id, token_id]
    )
    return None if row is None else _token(row)


async def take_tunnel_host(tx: Tx) -> int:
    """The next free number in the tenant's tunnel network; holds the pool until the transaction ends.

    Numbers go up and are not given again until the network is used up, so that an address says for long who
    had it. Then the lowest free one is taken; a number beyond the network says that there is none.
    """
    row = await tx.fetch_one(
        "INSERT INTO tunnel_pools (tenant_id, last_host) VALUES (%s, 1) ON CONFLICT (tenant_id) "
        "DO UPDATE SET last_host = tunnel_pools.last_host + 1 RETURNING last_host",
        [tx.tenant_id],
    )
    assert row is not None
    host: int = row["last_host"]
    if host <= MAX_TUNNEL_HOST:
        return host
    row = await tx.fetch_one(
        "SELECT candidate FROM (SELECT 1::bigint AS candidate UNION ALL SELECT tunnel_host + 1 FROM agents "
        "WHERE tenant_id = %(t)s AND tunnel_host IS NOT NULL) AS candidates WHERE NOT EXISTS (SELECT 1 FROM agents "
        "WHERE tenant_id = %(t)s AND tunnel_host = candidate) ORDER BY candidate LIMIT 1",
        {"t": tx.tenant_id},
    )
    assert row is not None
    return int(row["candidate"])


async def insert_agent(tx: Tx, agent: Agent, tunnel_host: int | None) -> bool:
    """Store a fresh agent; False when its key is enrolled in this tenant already."""
    return bool(
        await tx.execute(
            "INSERT INTO agents (tenant_id, id, kind, name, site, person_id, spki_sha256, sealing_key, tunnel_host, "
            "software, state, enrolled_at) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) "
            "ON CONFLICT (tenant_id, spki_sha256) DO NOTHING",
            [
                tx.tenant_id,
                agent.id,
                agent.kind,
                agent.name,
                agent.site,
                agent.person_id,
                agent.spki_sha256,
                agent.sealing_key,
                tunnel_host,
                agent.software,
                agent.state,
                agent.enrolled_at,
            ],
        )
    )


async def find_agent(tx: Tx, agent_id: UUID) -> Agent | None:
    """One agent, removed or not."""
    row = await tx.fetch_one(
        f"SELECT {_AGENT} FROM agents WHERE tenant_id = %s AND id = %s",  # noqa: S608
        [tx.tenant_id, agent_id],
    )
    return None if row is None else _agent(row)


async def list_agents(tx: Tx, person_id: UUID | None) -> list[Agent]:
    """Active agents, oldest first; with ``person_id`` only the clients of that person."""
    rows = await tx.fetch(
        f"SELECT {_AGENT} FROM agents WHERE tenant_id = %s AND state = 'active' "  # noqa: S608
        "AND (%s::uuid IS NULL OR person_id = %s) ORDER BY id",
        [tx.tenant_id, person_id, person_id],
    )
    return [_agent(row) for row in rows]


async def mark_removed(tx: Tx, agent_id: UUID, now: datetime) -> bool:
    """Remove an active agent; False when there is none."""
    return bool(
        await tx.execute(
            "UPDATE agents SET state = 'removed', removed_at = %s, tunnel_host = NULL "
            "WHERE tenant_id = %s AND id = %s AND state = 'active'",
            [now, tx.tenant_id, agent_id],
        )
    )


async def mark_seen(tx: Tx, agent_id: UUID, software: str, now: datetime) -> None:
    """Note when the agent was last connected, and which release it runs."""
    await tx.execute(
        "UPDATE agents SET last_seen_at = %s, software = %s WHERE tenant_id = %s AND id = %s",
        [now, software, tx.tenant_id, agent_id],
    )


def _token(row: Row) -> TokenRecord:
    return TokenRecord(
        id=row["id"],
        tenant_id=row["tenant_id"],
        kind=AgentKind(row["kind"]),
        name=row["name"],
        site=row["site"],
        person_id=row["person_id"],
        secret_hash=row["secret_hash"],
        created_at=row["created_at"],
        expires_at=row["expires_at"],
        used_at=row["used_at"],
    )


def _agent(row: Row) -> Agent:
    host = row["tunnel_host"]
    return Agent(
        id=row["id"],
        tenant_id=row["tenant_id"],
        kind=AgentKind(row["kind"]),
        name=row["name"],
        site=row["site"],
        person_id=row["person_id"],
        spki_sha256=row["spki_sha256"],
        sealing_key=row["sealing_key"],
        tunnel_address="" if host is None else tunnel_address(host),
        software=row["software"],
        state=AgentState(row["state"]),
        enrolled_at=row["enrolled_at"],
        last_seen_at=row["last_seen_at"],
        removed_at=row["removed_at"],
    )
