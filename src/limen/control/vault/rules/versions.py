"""The state machine of a secret's versions: the semantics of KV v2.

States of a version: *present* -> *deleted* (``deletion_time`` reached; can be undone) -> *present* ...;
any -> *destroyed* (final; the value is gone); any -> *pruned* (forgotten, when newer ones push it out).

Rules, compared with a real OpenBao server by tests/integration/vault/test_oracle.py:

1. A write makes version ``current + 1``. With check-and-set the given version must be the current one; 0 means
   "must not exist yet". ``cas_required`` refuses a write without it.
2. After a write at most ``max_versions`` (0: ``DEFAULT_MAX_VERSIONS``) newest versions remain.
3. ``delete_after`` dates the deletion of each version when it is written, and again when it is undeleted.
4. Deleting dates the deletion now, unless it is already in the past. Undeleting clears the date (rule 3).
   Neither touches a destroyed version. Unknown version numbers are ignored.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from limen.control.vault.errors import CasMismatch, CasRequired
from limen.control.vault.model import Head, MetadataChange, Version

DEFAULT_MAX_VERSIONS = 10


@dataclass(frozen=True, slots=True)
class Write:
    """What a write does: the head afterwards, the new version; versions below ``head.oldest_version`` go."""

    head: Head
    version: Version


def fresh(now: datetime) -> Head:
    """The head of a secret that was just created and has no version."""
    return Head(
        current_version=0,
        oldest_version=0,
        max_versions=0,
        cas_required=False,
        delete_after=0,
        metadata_version=0,
        created_at=now,
        updated_at=now,
    )


def check_cas(head: Head, cas: int | None) -> None:
    """Rule 1.

    Raises:
        CasRequired: when the secret asks for check-and-set and ``cas`` is None.
        CasMismatch: when ``cas`` is not the current version.
    """
    if cas is None:
        if head.cas_required:
            raise CasRequired
        return
    if cas != head.current_version:
        raise CasMismatch


def write(head: Head, cas: int | None, now: datetime) -> Write:
    """Add a version (rules 1 to 3).

    Raises:
        CasRequired, CasMismatch: see :func:`check_cas`.
    """
    check_cas(head, cas)
    number = head.current_version + 1
    keep = head.max_versions or DEFAULT_MAX_VERSIONS
    oldest = number - keep + 1 if number - head.oldest_version >= keep else head.oldest_version
    version = Version(number=number, created_at=now, deletion_time=_dated(head, now), destroyed=False)
    return Write(
        head=Head(
            current_version=number,
            oldest_version=oldest,
            max_versions=head.max_versions,
            cas_required=head.cas_required,
            delete_after=head.delete_after,
            metadata_version=head.metadata_version,
            created_at=head.created_at,
            updated_at=now,
        ),
        version=version,
    )


def delete(version: Version, now: datetime) -> Version:
    """Mark a version deleted (rule 4); returns it unchanged when there is nothing to do."""
    if not version.readable(now):
        return version
    return Version(version.number, version.created_at, now, version.destroyed)


def undelete(head: Head, version: Version, now: datetime) -> Version:
    """Take a deletion back (rules 3 and 4); returns it unchanged when there is nothing to do."""
    if version.destroyed:
        return version
    return Version(version.number, version.created_at, _dated(head, now), version.destroyed)


def destroy(version: Version) -> Version:
    """Destroy a version; its dates stay."""
    return Version(version.number, version.created_at, version.deletion_time, destroyed=True)


def change_settings(head: Head, change: MetadataChange, now: datetime) -> Head:
    """The head with ``change`` applied; its versions are pruned at the next write only."""
    if change.empty:
        return head
    return Head(
        current_version=head.current_version,
        oldest_version=head.oldest_version,
        max_versions=head.max_versions if change.max_versions is None else change.max_versions,
        cas_required=head.cas_required if change.cas_required is None else change.cas_required,
        delete_after=head.delete_after if change.delete_after is None else change.delete_after,
        metadata_version=head.metadata_version + 1,
        created_at=head.created_at,
        updated_at=now,
    )


def _dated(head: Head, now: datetime) -> datetime | None:
    return now + timedelta(seconds=head.delete_after) if head.delete_after else None
