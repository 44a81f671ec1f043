"""Resources as values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from limen.kernel.access import ResourceKind


@dataclass(frozen=True, slots=True)
class Resource:
    """One resource. ``attributes`` follow :mod:`limen.control.resources.rules` for its kind:

    - network: ``{"cidr": "10.1.2.3/32", "ports": [{"protocol": "tcp", "first": 443, "last": 443}]}``
    - bucket, vault, console: ``{}``; the rooms of those doors keep what they need in their own tables.
    """

    tenant_id: UUID
    id: UUID
    kind: ResourceKind
    name: str
    attributes: Mapping[str, Any] = field(default_factory=dict)
    builtin: bool = False
    created_at: datetime | None = None
