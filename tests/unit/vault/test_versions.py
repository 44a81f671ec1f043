"""The state machine of versions, walked at random against a naive model that keeps every version it ever made."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from limen.control.vault.errors import CasMismatch, CasRequired
from limen.control.vault.model import Head, MetadataChange, Version
from limen.control.vault.rules import versions

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Versions(RuleBasedStateMachine):
    """Everything a client may do to one secret."""

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.head: Head = versions.fresh(self.now)
        self.kept: dict[int, Version] = {}
        self.destroyed: set[int] = set()
        self.written = 0

    @rule(cas=st.one_of(st.none(), st.integers(0, 6)))
    def write(self, cas: int | None) -> None:
        expected_error = None
        if cas is None and self.head.cas_required:
            expected_error = CasRequired
        elif cas is not None and cas != self.written:
            expected_error = CasMismatch
        if expected_error is not None:
            with pytest.raises(expected_error):
                versions.write(self.head, cas, self.now)
            return
        done = versions.write(self.head, cas, self.now)
        self.written += 1
        assert done.version.number == self.written
        self.head = done.head
        self.kept[done.version.number] = done.version
        self.kept = {number: kept for number, kept in self.kept.items() if number >= self.head.oldest_version}
        # Right after a write no more than the limit remain.
        assert len(self.kept) <= (self.head.max_versions or versions.DEFAULT_MAX_VERSIONS)

    @rule(
        change=st.builds(
            MetadataChange,
            max_versions=st.one_of(st.none(), st.integers(0, 4)),
            cas_required=st.one_of(st.none(), st.booleans()),
            delete_after=st.one_of(st.none(), st.sampled_from([0, 60])),
        )
    )
    def settings(self, change: MetadataChange) -> None:
        before = self.head
        self.head = versions.change_settings(self.head, change, self.now)
        assert self.head.current_version == before.current_version
        assert self.head.oldest_version == before.oldest_version
        assert self.head.metadata_version == before.metadata_version + (not change.empty)

    @rule(number=st.integers(1, 6))
    def delete(self, number: int) -> None:
        if number in self.kept:
            before = self.kept[number]
            after = self.kept[number] = versions.delete(before, self.now)
            assert not after.readable(self.now)
            if before.deletion_time is not None and before.deletion_time <= self.now:
                assert after == before

    @rule(number=st.integers(1, 6))
    def undelete(self, number: int) -> None:
        if number in self.kept:
            after = self.kept[number] = versions.undelete(self.head, self.kept[number], self.now)
            assert after.readable(self.now) is (number not in self.destroyed)

    @rule(number=st.integers(1, 6))
    def destroy(self, number: int) -> None:
        if number in self.kept:
            self.kept[number] = versions.destroy(self.kept[number])
            self.destroyed.add(number)

    @rule(seconds=st.integers(1, 90))
    def wait(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    @invariant()
    def destroyed_stays_destroyed(self) -> None:
        assert all(self.kept[number].destroyed for number in self.destroyed if number in self.kept)

    @invariant()
    def the_newest_is_kept(self) -> None:
        assert self.head.current_version == self.written
        assert not self.written or self.written in self.kept
        assert all(number >= self.head.oldest_version for number in self.kept)


TestVersions = Versions.TestCase


@pytest.mark.row("V1")
def test_the_default_keeps_ten() -> None:
    head = versions.fresh(NOW)
    for _ in range(13):
        head = versions.write(head, None, NOW).head
    assert (head.current_version, head.oldest_version) == (13, 4)


def test_lowering_the_limit_prunes_at_the_next_write_only() -> None:
    head = replace(versions.fresh(NOW), current_version=6)
    head = versions.change_settings(head, MetadataChange(max_versions=1), NOW)
    assert head.oldest_version == 0
    assert versions.write(head, None, NOW).head.oldest_version == 7


def test_a_deletion_that_lies_ahead_is_moved_to_now() -> None:
    ahead = Version(1, NOW, NOW + timedelta(hours=1), destroyed=False)
    assert ahead.readable(NOW)
    assert versions.delete(ahead, NOW).deletion_time == NOW
