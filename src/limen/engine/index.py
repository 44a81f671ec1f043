"""Policies indexed by resource, then principal: a decision reads only the policies that name both."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from uuid import UUID

from limen.engine.model import Policy


class PolicyIndex:
    """An immutable look-up built once per tenant version.

    Memory is one entry per (principal, resource) pair named by a policy.
    """

    __slots__ = ("_by_principal", "_by_resource", "policies")

    def __init__(self, policies: Iterable[Policy]) -> None:
        self.policies = tuple(sorted(policies, key=lambda policy: policy.id.int))
        named: defaultdict[UUID, defaultdict[UUID, list[Policy]]] = defaultdict(lambda: defaultdict(list))
        reach: defaultdict[UUID, set[UUID]] = defaultdict(set)
        for policy in self.policies:
            for resource in policy.resources:
                of_resource = named[resource]
                for principal in policy.principals:
                    of_resource[principal].append(policy)
            for principal in policy.principals:
                reach[principal] |= policy.resources
        self._by_resource = {
            resource: _Named({principal: tuple(found) for principal, found in of_resource.items()})
            for resource, of_resource in named.items()
        }
        self._by_principal = {principal: frozenset(found) for principal, found in reach.items()}

    def concerning(self, subject: UUID, groups: frozenset[UUID], resource: UUID) -> tuple[Policy, ...]:
        """The policies that name the subject (or one of its groups) and the resource, each once."""
        named = self._by_resource.get(resource)
        if named is None:
            return ()
        # A set keeps its members' hashes, while a UUID computes its own anew for every look-up: so all groups are
        # looked up at once, by intersection.
        hits = named.principals & groups
        found = [named.policies[principal] for principal in hits]
        if subject not in groups and (direct := named.policies.get(subject)):
            found.append(direct)
        if len(found) == 1:
            return found[0]
        return tuple({policy.id: policy for policies in found for policy in policies}.values())

    def named_resources(self, subject: UUID, groups: frozenset[UUID]) -> frozenset[UUID]:
        """Every resource that some policy names together with the subject or one of its groups."""
        empty: frozenset[UUID] = frozenset()
        return empty.union(*(self._by_principal.get(one, empty) for one in (subject, *groups)))


class _Named:
    """The principals that policies name together with one resource."""

    __slots__ = ("policies", "principals")

    def __init__(self, policies: Mapping[UUID, tuple[Policy, ...]]) -> None:
        self.policies = policies
        self.principals = frozenset(policies)
