"""UUIDv7 as RFC 9562 section 5.7 has it, and in order."""

import time
from concurrent.futures import ThreadPoolExecutor
from uuid import RFC_4122

import pytest

from limen.kernel.errors import Malformed
from limen.kernel.ids import new_id, parse_id


def test_version_variant_and_time() -> None:
    before = time.time_ns() // 1_000_000
    made = new_id()
    after = time.time_ns() // 1_000_000
    assert made.version == 7
    assert made.variant == RFC_4122
    assert before <= made.int >> 80 <= after + 1


def test_ids_of_one_process_rise_strictly() -> None:
    made = [new_id() for _ in range(20_000)]
    assert made == sorted(set(made))


def test_threads_never_share_an_id() -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: new_id(), range(8_000)))
    assert len(set(made)) == len(made)


@pytest.mark.parametrize("text", ["", "nope", "0" * 31, "../../etc/passwd", "'; --"])
def test_bad_text_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(Malformed) as caught:
        parse_id(text, "grant id")
    assert "grant id" in caught.value.message
    assert not text or text not in caught.value.message
