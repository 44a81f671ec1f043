"""Pure rules of the ledger."""

from datetime import UTC, datetime
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from limen.control.grants.model import Block
from limen.control.grants.rules import MAX_NUMBER, block_reason, random_number

RESOURCES = [UUID(int=number) for number in range(1, 4)]
NOW = datetime(2026, 6, 1, tzinfo=UTC)


@given(st.lists(st.sampled_from([None, *RESOURCES]), max_size=5), st.sampled_from(RESOURCES))
def test_a_subject_is_blocked_from_what_a_block_names_and_from_all_when_suspended(
    blocked: list[UUID | None], wanted: UUID
) -> None:
    blocks = [Block(UUID(int=9), UUID(int=8), resource, "why", NOW) for resource in blocked]
    reason = block_reason(blocks, wanted)
    assert bool(reason) == (None in blocked or wanted in blocked)
    assert reason.startswith("suspended") == (None in blocked)


def test_numbers_fit_a_packet_mark_and_are_never_zero() -> None:
    numbers = {random_number() for _ in range(20_000)}
    assert min(numbers) >= 1
    assert max(numbers) <= MAX_NUMBER
    assert len(numbers) > 19_900, "unpredictable numbers hardly ever meet"
