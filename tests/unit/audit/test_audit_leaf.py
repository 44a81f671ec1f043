"""The bytes of a record: golden vectors, what is committed to, what a stranger can type."""

import json
from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limen.control.audit.model import AuditEvent, Outcome
from limen.control.audit.rules import leaf
from limen.kernel.principal import SYSTEM, Actor, ActorKind
from tests.unit.audit.verifier import verify

TENANT = UUID("01890a5d-ac96-774b-bcce-b302099a8057")
RECORD = UUID("01890a5d-ac96-774b-bcce-b302099a8058")
PERSON = UUID("01890a5d-ac96-774b-bcce-b302099a8059")
AT = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
SALTS = bytes(range(128))
EVENT = AuditEvent(
    "identity.person.suspend",
    Outcome.OK,
    Actor(ActorKind.PERSON, PERSON, "203.0.113.7"),
    "person",
    PERSON,
    {"reason": "lost laptop", "sessions": 3, "forced": True, "until": None},
    {"email": "ana@example.org"},
)
# The same values stand in docs/audit-format.md. They may never change.
GOLDEN_HEAD = (
    "4c4d413101890a5dac96774bbcceb302099a805701890a5dac96774bbcceb302099a80580006475ef6574f35"
    "00176964656e746974792e706572736f6e2e73757370656e64"
)


def encode(event: AuditEvent = EVENT, **changed: object) -> bytes:
    arguments: dict[str, object] = {"tenant_id": TENANT, "record_id": RECORD, "at": AT, "salts": SALTS} | changed
    return leaf.encode(
        arguments["tenant_id"],  # type: ignore[arg-type]
        arguments["record_id"],  # type: ignore[arg-type]
        arguments["at"],  # type: ignore[arg-type]
        action=event.action,
        salts=arguments["salts"],  # type: ignore[arg-type]
        values=leaf.values_of(event),
    )


def test_golden_vector() -> None:
    encoded = encode()
    assert encoded[: len(GOLDEN_HEAD) // 2].hex() == GOLDEN_HEAD
    assert len(encoded) == len(GOLDEN_HEAD) // 2 + 8 * 32
    assert verify.leaf_hash(encoded).hex() == GOLDEN_LEAF_HASH


GOLDEN_LEAF_HASH = "9862b3c078b268832924a99271a8330bd66bdd3f240463f6827c0685234e70dd"


def test_the_verifier_reads_what_the_rules_write() -> None:
    tenant, record, at, action, commitments = verify.read_leaf(encode())
    assert (tenant, record, at, action) == (
        TENANT.bytes,
        RECORD.bytes,
        leaf.microseconds(AT),
        b"identity.person.suspend",
    )
    values = dict(zip(leaf.FIELDS, json.loads(json.dumps(leaf.values_of(EVENT).in_order())), strict=True))
    salts = {name: SALTS[i * 16 : i * 16 + 16].hex() for i, name in enumerate(leaf.FIELDS)}
    assert verify.check_values(commitments, salts, values) == []
    assert verify.FIELDS == leaf.FIELDS


@pytest.mark.parametrize("name", leaf.FIELDS)
def test_every_field_has_its_own_commitment(name: str) -> None:
    changed = {
        "outcome": AuditEvent(
            EVENT.action, Outcome.DENIED, EVENT.actor, "person", PERSON, EVENT.detail, EVENT.personal
        ),
        "actor_kind": _with_actor(Actor(ActorKind.WORKLOAD, PERSON, "203.0.113.7")),
        "actor_id": _with_actor(Actor(ActorKind.PERSON, RECORD, "203.0.113.7")),
        "source": _with_actor(Actor(ActorKind.PERSON, PERSON, "203.0.113.8")),
        "object_kind": AuditEvent(EVENT.action, Outcome.OK, EVENT.actor, "group", PERSON, EVENT.detail, EVENT.personal),
        "object_id": AuditEvent(EVENT.action, Outcome.OK, EVENT.actor, "person", None, EVENT.detail, EVENT.personal),
        "detail": AuditEvent(EVENT.action, Outcome.OK, EVENT.actor, "person", PERSON, {"x": 1}, EVENT.personal),
        "personal": AuditEvent(EVENT.action, Outcome.OK, EVENT.actor, "person", PERSON, EVENT.detail, {}),
    }
    before, after = verify.read_leaf(encode())[4], verify.read_leaf(encode(changed[name]))[4]
    different = [
        field for i, field in enumerate(leaf.FIELDS) if before[32 * i : 32 * i + 32] != after[32 * i : 32 * i + 32]
    ]
    assert different == [name]


def _with_actor(actor: Actor) -> AuditEvent:
    return AuditEvent(EVENT.action, Outcome.OK, actor, "person", PERSON, EVENT.detail, EVENT.personal)


def test_equal_values_cannot_be_recognised_by_their_commitments() -> None:
    assert verify.read_leaf(encode(salts=leaf.new_salts()))[4] != verify.read_leaf(encode(salts=leaf.new_salts()))[4]
    commitments = verify.read_leaf(encode(AuditEvent("room.object.act", Outcome.OK, SYSTEM)))[4]
    assert len({commitments[i : i + 32] for i in range(0, 256, 32)}) == 8


@given(st.text(max_size=6000))
def test_whatever_a_stranger_types_is_recorded(text: str) -> None:
    cleaned = leaf.clean(text)
    assert "\x00" not in cleaned
    assert len(cleaned) <= leaf.MAX_TEXT_CHARS
    assert leaf.clean(cleaned) == cleaned
    cleaned.encode("utf-8")
    if len(text) <= leaf.MAX_TEXT_CHARS and "\x00" not in text and text.isprintable():
        assert cleaned == text


def test_lone_surrogates_and_nul_are_replaced() -> None:
    assert leaf.clean("a\ud800b\x00c") == "a?b\ufffdc"


_values = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(max_size=50)


@given(st.dictionaries(st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True), _values, max_size=5))
def test_canonical_json_survives_any_reader(detail: dict[str, str | int | bool | None]) -> None:
    """What a JSON reader makes of an export encodes to the same bytes again."""
    event = AuditEvent("room.object.act", Outcome.OK, SYSTEM, detail=detail)
    value = leaf.values_of(event).detail
    canonical = leaf.canonical_json(value)
    canonical.decode("ascii")
    shuffled = dict(reversed(list(value.items())))
    assert leaf.canonical_json(shuffled) == canonical
    assert verify._canonical(verify.parse(json.dumps(shuffled).encode())).encode() == canonical


@given(st.datetimes(datetime(1900, 1, 1), datetime(2300, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001
def test_times_are_exact_to_the_microsecond(at: datetime) -> None:
    assert leaf.from_microseconds(leaf.microseconds(at)) == at
    assert leaf.microseconds(at.astimezone(timezone(timedelta(hours=5)))) == leaf.microseconds(at)


def test_naive_times_are_refused() -> None:
    with pytest.raises(ValueError, match="aware"):
        leaf.microseconds(datetime(2026, 1, 1))  # noqa: DTZ001


@pytest.mark.parametrize(
    "action", ["", "identity.person", "a.b.c.d", "Identity.person.suspend", "a.b.c\n", "a..c", "a.b.c" * 40]
)
def test_actions_have_one_form(action: str) -> None:
    with pytest.raises(ValueError, match=r"room\.object\.action"):
        AuditEvent(action, Outcome.OK, SYSTEM)


def test_names_of_detail_and_kinds_are_tags() -> None:
    with pytest.raises(ValueError, match="name"):
        AuditEvent("a.b.c", Outcome.OK, SYSTEM, detail={"E mail": 1})
    with pytest.raises(ValueError, match="name"):
        AuditEvent("a.b.c", Outcome.OK, SYSTEM, personal={"": "x"})
    with pytest.raises(ValueError, match="kind"):
        AuditEvent("a.b.c", Outcome.OK, SYSTEM, "a person", uuid4())


@pytest.mark.parametrize("value", [1.5, 2**63, b"x", ["list"]])
def test_detail_of_other_types_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="detail"):
        leaf.values_of(AuditEvent("a.b.c", Outcome.OK, SYSTEM, detail={"x": value}))  # type: ignore[dict-item]
