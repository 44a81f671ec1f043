"""Policies indexed by (principal, resource): a decision reads only the policies that name both."""

from collections import defaultdict
from collections.abc import Iterable
from uuid import UUID

from limen.engine.model import Policy

Key = tuple[UUID, UUID]


class PolicyIndex:
    """An immutable look-up built once per tenant version.

    Memory is one entry per (principal, resource) pair named by a policy.
    """

    __slots__ = ("_by_pair", "_by_principal", "policies")

    def __init__(self, policies: Iterable[Policy]) -> None:
        self.policies = tuple(sorted(policies, key=lambda policy: policy.id))
        pairs: defaultdict[Key, list[Policy]] = defaultdict(list)
        reach: defaultdict[UUID, set[UUID]] = defaultdict(set)
        for policy in self.policies:
            for principal in policy.principals:
                reach[principal] |= policy.resources
                for resource in policy.resources:
                    pairs[principal, resource].append(policy)
        self._by_pair = {key: tuple(found) for key, found in pairs.items()}
        self._by_principal = {principal: frozenset(found) for principal, found in reach.items()}

    def concerning(self, subject: UUID, groups: frozenset[UUID], resource: UUID) -> tuple[Policy, ...]:
        """The policies that name the subject (or one of its groups) and the resource, each once."""
        look_up = self._by_pair.get
        direct = look_up((subject, resource), ())
        found = [direct] if direct else []
        for group in groups:
            hit = look_up((group, resource))
            if hit:
                found.append(hit)
        if len(found) == 1:
            return found[0]
        return tuple({policy.id: policy for policies in found for policy in policies}.values())

    def named_resources(self, subject: UUID, groups: frozenset[UUID]) -> frozenset[UUID]:
        """Every resource that some policy names together with the subject or one of its groups."""
        empty: frozenset[UUID] = frozenset()
        return empty.union(*(self._by_principal.get(one, empty) for one in (subject, *groups)))
