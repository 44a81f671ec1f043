"""The only SQL of the policy room."""

from uuid import UUID

from psycopg.types.json import Jsonb

from limen.control.policy.model import StoredPolicy
from limen.control.policy.rules import dump_conditions, load_conditions
from limen.db.database import Row, Tx
from limen.engine.model import Effect, Policy
from limen.kernel.access import Action

_SELECT = """
SELECT p.id, p.name, p.effect, p.actions, p.conditions, p.builtin, p.created_at,
       ARRAY(SELECT q.principal_id FROM policy_principals q
              WHERE q.tenant_id = p.tenant_id AND q.policy_id = p.id) AS principals,
       ARRAY(SELECT r.resource_id FROM policy_resources r
              WHERE r.tenant_id = p.tenant_id AND r.policy_id = p.id) AS resources
  FROM policies p
 WHERE p.tenant_id = %s
"""


def _stored(row: Row) -> StoredPolicy:
    effect = Effect(row["effect"])
    policy = Policy(
        id=row["id"],
        name=row["name"],
        effect=effect,
        principals=frozenset(row["principals"]),
        resources=frozenset(row["resources"]),
        actions=frozenset(Action(action) for action in row["actions"]),
        conditions=load_conditions(row["conditions"], effect),
    )
    return StoredPolicy(policy, row["builtin"], row["created_at"])


async def all_policies(tx: Tx) -> list[StoredPolicy]:
    """Every policy of the tenant, by name."""
    return [_stored(row) for row in await tx.fetch(_SELECT + " ORDER BY p.name_lc", (tx.tenant_id,))]


async def find(tx: Tx, policy_id: UUID) -> StoredPolicy | None:
    """One policy."""
    row = await tx.fetch_one(_SELECT + " AND p.id = %s", (tx.tenant_id, policy_id))
    return _stored(row) if row else None


async def insert(tx: Tx, stored: StoredPolicy, kinds: dict[UUID, str]) -> bool:
    """Write a policy; ``kinds`` says what each principal is. False when the name is taken."""
    policy = stored.policy
    count = await tx.execute(
        "INSERT INTO policies (tenant_id, id, name, effect, actions, conditions, builtin, created_at)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT (tenant_id, name_lc) DO NOTHING",
        (
            tx.tenant_id,
            policy.id,
            policy.name,
            policy.effect,
            sorted(policy.actions),
            Jsonb(dump_conditions(policy.conditions)),
            stored.builtin,
            stored.created_at,
        ),
    )
    if count == 0:
        return False
    await tx.execute_many(
        "INSERT INTO policy_principals (tenant_id, policy_id, principal_id, kind) VALUES (%s, %s, %s, %s)",
        [(tx.tenant_id, policy.id, principal, kinds[principal]) for principal in sorted(policy.principals)],
    )
    await tx.execute_many(
        "INSERT INTO policy_resources (tenant_id, policy_id, resource_id) VALUES (%s, %s, %s)",
        [(tx.tenant_id, policy.id, resource) for resource in sorted(policy.resources)],
    )
    return True


async def delete(tx: Tx, policy_id: UUID) -> bool:
    """Delete a policy; False when there was none."""
    count = await tx.execute("DELETE FROM policies WHERE tenant_id = %s AND id = %s", (tx.tenant_id, policy_id))
    return count == 1
