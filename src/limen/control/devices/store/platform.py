"""Platform agents and their tokens; statements of the enumerated job ``SystemRole.PLATFORM``."""

from datetime import datetime
from uuid import UUID

from limen.control.devices.model import Agent, AgentState, TokenRecord
from limen.db.database import Row, SystemTx
from limen.wire.agent import AgentKind

_AGENT = "id, kind, name, spki_sha256, sealing_key, software, state, enrolled_at, last_seen_at, removed_at"
_TOKEN = "id, kind, name, secret_hash, created_at, expires_at, used_at"  # noqa: S105 (columns)


async def insert_token(tx: SystemTx, token: TokenRecord, created_by: UUID) -> None:
    """Store a fresh token, and forget those that ended before it was made."""
    await tx.execute(
        "DELETE FROM platform_enrolment_tokens WHERE expires_at < %s - interval '1 day'", [token.created_at]
    )
    await tx.execute(
        "INSERT INTO platform_enrolment_tokens (id, kind, name, secret_hash, created_by, created_at, expires_at) "
        "VALUES (%s, %s, %s, %s, %s, %s, %s)",
        [
            token.id,
            token.kind,
            token.name,
            token.secret_hash,
            created_by,
            token.created_at,
            token.expires_at,
        ],
    )


async def spend_token(
    tx: SystemTx, token_id: UUID, kind: AgentKind, secret_hash: bytes, now: datetime
) -> TokenRecord | None:
    """Mark a good token as used; None when it is not good. Of any number of callers one gets the record."""
    row = await tx.fetch_one(
        "UPDATE platform_enrolment_tokens SET used_at = %s WHERE id = %s AND kind = %s AND secret_hash = %s "  # noqa: S608
        f"AND used_at IS NULL AND expires_at > %s RETURNING {_TOKEN}",
        [now, token_id, kind, secret_hash, now],
    )
    return None if row is None else _token(row)


async def find_token(tx: SystemTx, token_id: UUID) -> TokenRecord | None:
    """A token, good or not."""
    row = await tx.fetch_one(
        f"SELECT {_TOKEN} FROM platform_enrolment_tokens WHERE id = %s",  # noqa: S608
        [token_id],
    )
    return None if row is None else _token(row)


async def insert_agent(tx: SystemTx, agent: Agent, tunnel_host: int | None) -> bool:
    """Store a fresh agent; False when its key is enrolled already. Platform agents have no tunnel."""
    if tunnel_host is not None:
        raise ValueError("a platform agent has no tunnel address")
    return bool(
        await tx.execute(
            "INSERT INTO platform_agents (id, kind, name, spki_sha256, sealing_key, software, state, enrolled_at) "
            "VALUES (%s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT (spki_sha256) DO NOTHING",
            [
                agent.id,
                agent.kind,
                agent.name,
                agent.spki_sha256,
                agent.sealing_key,
                agent.software,
                agent.state,
                agent.enrolled_at,
            ],
        )
    )


async def find_agent(tx: SystemTx, agent_id: UUID) -> Agent | None:
    """One agent, removed or not."""
    row = await tx.fetch_one(f"SELECT {_AGENT} FROM platform_agents WHERE id = %s", [agent_id])  # noqa: S608
    return None if row is None else _agent(row)


async def list_agents(tx: SystemTx) -> list[Agent]:
    """Active agents, oldest first."""
    rows = await tx.fetch(
        f"SELECT {_AGENT} FROM platform_agents WHERE state = 'active' ORDER BY id"  # noqa: S608
    )
    return [_agent(row) for row in rows]


async def mark_removed(tx: SystemTx, agent_id: UUID, now: datetime) -> bool:
    """Remove an active agent; False when there is none."""
    return bool(
        await tx.execute(
            "UPDATE platform_agents SET state = 'removed', removed_at = %s WHERE id = %s AND state = 'active'",
            [now, agent_id],
        )
    )


async def mark_seen(tx: SystemTx, agent_id: UUID, software: str, now: datetime) -> None:
    """Note when the agent was last connected, and which release it runs."""
    await tx.execute(
        "UPDATE platform_agents SET last_seen_at = %s, software = %s WHERE id = %s", [now, software, agent_id]
    )


def _token(row: Row) -> TokenRecord:
    return TokenRecord(
        id=row["id"],
        tenant_id=None,
        kind=AgentKind(row["kind"]),
        name=row["name"],
        secret_hash=row["secret_hash"],
        created_at=row["created_at"],
        expires_at=row["expires_at"],
        used_at=row["used_at"],
    )


def _agent(row: Row) -> Agent:
    return Agent(
        id=row["id"],
        tenant_id=None,
        kind=AgentKind(row["kind"]),
        name=row["name"],
        spki_sha256=row["spki_sha256"],
        sealing_key=row["sealing_key"],
        software=row["software"],
        state=AgentState(row["state"]),
        enrolled_at=row["enrolled_at"],
        last_seen_at=row["last_seen_at"],
        removed_at=row["removed_at"],
    )
