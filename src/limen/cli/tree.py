"""All commands, in the order in which the overview shows them."""

from limen.cli.command import Section, Tree
from limen.cli.commands import (
    agents,
    audit,
    connections,
    grants,
    groups,
    people,
    policies,
    resources,
    sftp_users,
    sign_in,
    standing,
    tenants,
    vault,
    workloads,
)

TREE = Tree(
    (
        Section("Signing in", (*sign_in.COMMANDS, *standing.COMMANDS)),
        Section("People", (*people.COMMANDS, *groups.COMMANDS, *workloads.COMMANDS)),
        Section("What there is to reach", (*resources.COMMANDS, *connections.COMMANDS, *sftp_users.COMMANDS)),
        Section("Who may reach it", policies.COMMANDS),
        Section("What is open, and shutting it", grants.COMMANDS),
        Section("Your secrets", vault.COMMANDS),
        Section("Agents", agents.COMMANDS),
        Section("Audit trail", audit.COMMANDS),
        Section("The platform (with an operator's token)", (*tenants.COMMANDS, *agents.PLATFORM_COMMANDS)),
    )
)
