"""Attacks on an export: whatever is changed, the verifier finds it and says where.

Three attackers: one who edits a file; one who owns the database and makes a consistent export, but has no key; one
who also has the key, and can only be found out by a checkpoint that was kept elsewhere.
"""

import base64
import copy
import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from limen.control.audit.export import Window
from limen.control.audit.rules import leaf, lines
from tests.unit.audit.trail import START, Trail, event, text
from tests.unit.audit.verifier import check

pytestmark = pytest.mark.row("O2")

A, B = UUID(int=(0xA << 76) | 0xA), UUID(int=(0xB << 76) | 0xB)
Lines = list[dict[str, Any]]


@pytest.fixture(scope="module")
def trail() -> Trail:
    """Two tenants; seals of 1, 3 and 5 records each: lines 1 header, 2 seal, 3, 4 seal, 5-7, 8 seal, 9-13, 14 end."""
    made = Trail()
    made.grow([A, B], [1, 3, 5])
    return made


@pytest.fixture
def export(trail: Trail) -> Lines:
    """A sound export of tenant A that a test may spoil."""
    found: Lines = json.loads(json.dumps(trail.export(A)))
    return found


def findings(trail: Trail, export: Lines, tmp_path: Path, **known: Any) -> list[str]:
    """What the verifier says, as 'line: message'."""
    result = check(text(export), trail.public_key, tmp_path, **known)
    assert result["ok"] is (not result["findings"])
    return [f"{f['line']}: {f['message']}" for f in result["findings"]]


def test_a_sound_export_verifies(trail: Trail, export: Lines, tmp_path: Path) -> None:
    result = check(text(export), trail.public_key, tmp_path, trusted=trail.kept(A), outside=b"".join(trail.outside))
    assert result["ok"], result
    assert (result["records"], result["seals"], result["checkpoints"], result["erased"]) == (9, 3, 3, 0)
    assert result["notes"] == []


@pytest.mark.parametrize("name", leaf.FIELDS)
def test_edited_value(trail: Trail, export: Lines, tmp_path: Path, name: str) -> None:
    export[5]["values"][name] = {"x": 1} if name in {"detail", "personal"} else "other"
    assert findings(trail, export, tmp_path) == [
        f"6: its value of '{name}' was changed (value and salt do not open the commitment)"
    ]


@pytest.mark.parametrize("name", leaf.FIELDS)
def test_edited_salt(trail: Trail, export: Lines, tmp_path: Path, name: str) -> None:
    export[5]["salts"][name] = "00" * 16
    assert len(findings(trail, export, tmp_path)) == 1


@pytest.mark.parametrize(
    ("member", "value", "says"),
    [
        ("id", "0192f0c4-0000-7000-8000-0000000000ff", "its id is not the one in its leaf"),
        ("at", "2026-03-01T00:00:00.000000Z", "its time is not the one in its leaf"),
        ("action", "identity.person.lift", "its action is not the one in its leaf"),
        ("number", 7, "it is number 3 of its tenant, not 7"),
    ],
)
def test_edited_description(trail: Trail, export: Lines, tmp_path: Path, member: str, value: object, says: str) -> None:
    export[5][member] = value
    assert findings(trail, export, tmp_path) == [f"6: {says}"]


def test_record_rewritten_with_its_leaf(trail: Trail, export: Lines, tmp_path: Path) -> None:
    """The attacker recomputes everything that needs no key."""
    record = export[5]
    forged = leaf.values_of(event(77))
    salts = leaf.new_salts()
    at = leaf.from_microseconds(leaf.microseconds(START) + 5_000_000)
    encoded = leaf.encode(A, UUID(record["id"]), at, action=record["action"], salts=salts, values=forged)
    shown = {"id": record["id"], "at": lines.time_text(at), "action": record["action"]}
    export[5] = lines.record_line(record["number"], encoded, (forged, salts), shown)
    assert findings(trail, export, tmp_path) == ["6: it was altered or added: seal 2 has no such leaf"]


def test_record_and_list_of_leaves_rewritten(trail: Trail, export: Lines, tmp_path: Path) -> None:
    leaves = bytearray(base64.b64decode(export[3]["leaves"]))
    leaves[0] ^= 1
    export[3]["leaves"] = base64.b64encode(leaves).decode()
    assert "4: seal 2: its list of leaves does not hash to its root" in findings(trail, export, tmp_path)


@pytest.mark.parametrize("index", range(64))
def test_any_byte_of_a_leaf(trail: Trail, tmp_path: Path, index: int) -> None:
    export: Lines = json.loads(json.dumps(trail.export(A)))
    data = bytearray(base64.b64decode(export[4]["leaf"]))
    data[index * len(data) // 64] ^= 0x40
    export[4]["leaf"] = base64.b64encode(data).decode()
    found = findings(trail, export, tmp_path)
    assert found
    assert all(entry.startswith(("5:", "4:")) for entry in found)


def test_deleted_record(trail: Trail, export: Lines, tmp_path: Path) -> None:
    del export[5]
    export[-1]["records"] -= 1
    found = findings(trail, export, tmp_path)
    assert len(found) == 1
    assert found[0].startswith("4: record number 3 under seal 2 is missing")


def test_deleted_record_without_fixing_the_count(trail: Trail, export: Lines, tmp_path: Path) -> None:
    del export[5]
    assert "13: the export says 9 records in 3 seals at its end, it holds 8 in 3" in findings(trail, export, tmp_path)


def test_reordered_records(trail: Trail, export: Lines, tmp_path: Path) -> None:
    export[4], export[6] = export[6], export[4]
    assert findings(trail, export, tmp_path) == [
        "6: it is out of order: its number is 3",
        "7: it is out of order: its number is 2",
    ]


def test_duplicated_record(trail: Trail, export: Lines, tmp_path: Path) -> None:
    export.insert(6, copy.deepcopy(export[5]))
    export[-1]["records"] += 1
    assert findings(trail, export, tmp_path) == ["7: it repeats line 6"]


def test_record_of_another_tenant(trail: Trail, export: Lines, tmp_path: Path) -> None:
    export[5] = trail.export(B)[5]
    assert "6: its tenant is not the one in its leaf" in findings(trail, export, tmp_path)


def test_seal_of_another_tenant(trail: Trail, export: Lines, tmp_path: Path) -> None:
    export[3:7] = trail.export(B)[3:7]
    assert "4: seal 2 belongs to another tenant" in findings(trail, export, tmp_path)


def test_deleted_seal(trail: Trail, export: Lines, tmp_path: Path) -> None:
    del export[3:7]
    export[-1] |= {"records": 6, "seals": 2}
    assert findings(trail, export, tmp_path) == ["4: the seals 2 to 2 before it are missing"]


def test_deleted_beginning(trail: Trail, export: Lines, tmp_path: Path) -> None:
    del export[1:3]
    export[-1] |= {"records": 8, "seals": 2}
    assert findings(trail, export, tmp_path) == ["2: the seals 1 to 1 before it are missing"]


def test_swapped_seals(trail: Trail, export: Lines, tmp_path: Path) -> None:
    export[1:13] = export[3:7] + export[1:3] + export[7:13]
    found = findings(trail, export, tmp_path)
    assert found[0] == "2: the seals 1 to 1 before it are missing"
    assert "6: seal 1 stands after seal 2: repeated or out of order" in found


@pytest.mark.parametrize(
    "member", ["number", "before", "count", "checkpoint", "root", "previous", "first_at", "last_at"]
)
def test_edited_seal(trail: Trail, export: Lines, tmp_path: Path, member: str) -> None:
    seal = export[7]["seal"]
    if member in {"root", "previous"}:
        seal[member] = "ab" * 32
    elif member.endswith("_at"):
        seal[member] = "2026-03-01T00:00:00.000000Z" if member == "first_at" else "2027-03-01T00:00:00.000000Z"
    else:
        seal[member] += 1
    assert any(entry.startswith("8:") for entry in findings(trail, export, tmp_path))


@pytest.mark.parametrize("member", ["number", "at", "size", "root", "previous", "key_id", "signature"])
def test_edited_checkpoint(trail: Trail, export: Lines, tmp_path: Path, member: str) -> None:
    signed = export[7]["signed"]
    if member in {"number", "size"}:
        signed[member] += 1
    elif member == "at":
        signed[member] = "2026-03-01T00:00:00.000000Z"
    else:
        signed[member] = ("0" if signed[member][0] != "0" else "1") + signed[member][1:]
    assert any(entry.startswith("8: checkpoint") for entry in findings(trail, export, tmp_path))


def test_edited_proof(trail: Trail, export: Lines, tmp_path: Path) -> None:
    export[7]["proof"]["path"][0] = "ab" * 32
    assert findings(trail, export, tmp_path) == ["8: seal 3 is not under the root of checkpoint 3"]


def test_checkpoint_of_another_seal(trail: Trail, export: Lines, tmp_path: Path) -> None:
    export[7] |= {"proof": export[3]["proof"], "signed": export[3]["signed"]}
    assert findings(trail, export, tmp_path) == ["8: seal 3 belongs to checkpoint 3, not 2"]


def test_removed_checkpoint(trail: Trail, export: Lines, tmp_path: Path) -> None:
    del export[7]["signed"], export[7]["proof"]
    found = findings(trail, export, tmp_path)
    assert "8: the last seal (3) has no signed checkpoint" in found


def test_signed_by_another_key(trail: Trail, export: Lines, tmp_path: Path) -> None:
    result = check(text(export), Trail().public_key, tmp_path)
    assert len(result["findings"]) == 3
    assert "is signed by key" in result["findings"][0]["message"]


def test_everything_forged_under_another_key(trail: Trail, tmp_path: Path) -> None:
    """A whole consistent trail, with the key id of the real key written over the forger's."""
    forger = Trail()
    forger.grow([A, B], [1, 3, 5])
    export = forger.export(A)
    for line in export:
        if line["type"] == "seal":
            line["signed"]["key_id"] = trail.export(A)[1]["signed"]["key_id"]
    result = check(text(export), trail.public_key, tmp_path)
    assert [f["line"] for f in result["findings"]] == [2, 4, 8]
    assert all("does not verify" in f["message"] for f in result["findings"])


@pytest.mark.parametrize("cut", range(1, 14))
def test_file_cut_anywhere(trail: Trail, export: Lines, tmp_path: Path, cut: int) -> None:
    assert any("cut" in entry for entry in findings(trail, export[:cut], tmp_path))


def test_file_cut_inside_a_line(trail: Trail, export: Lines, tmp_path: Path) -> None:
    result = check(text(export)[:-20], trail.public_key, tmp_path)
    assert [f["message"] for f in result["findings"]] == ["the line is cut", "the export is cut: it has no end line"]


def test_lines_after_the_end(trail: Trail, export: Lines, tmp_path: Path) -> None:
    assert findings(trail, [*export, export[-1]], tmp_path) == ["15: there is something after the end of the export"]


def cut_tail(export: Lines) -> Lines:
    """Remove the last seal and everything that tells of it."""
    return [*export[:7], export[-1] | {"records": 4, "seals": 2}]


def test_cut_tail_is_found_with_an_earlier_checkpoint(trail: Trail, export: Lines, tmp_path: Path) -> None:
    short = cut_tail(export)
    assert findings(trail, short, tmp_path) == [], "without knowledge from elsewhere nobody could tell"
    assert findings(trail, short, tmp_path, trusted=trail.kept(A)) == [
        "0: cut or rolled back: the trusted checkpoint knows seal 3, the last here is 2"
    ]


def test_cut_tail_is_found_with_the_checkpoint_file(trail: Trail, export: Lines, tmp_path: Path) -> None:
    outside = b"".join(trail.outside)
    assert findings(trail, cut_tail(export), tmp_path, outside=outside) == [
        "0: cut: the checkpoint file knows seals up to 3 from before this export, the last here is 2"
    ]


def test_an_older_export_is_no_cut(trail: Trail, export: Lines, tmp_path: Path) -> None:
    short = cut_tail(export)
    short[0]["exported_at"] = short[3]["signed"]["at"]
    result = check(text(short), trail.public_key, tmp_path, outside=b"".join(trail.outside))
    assert result["ok"]
    assert result["notes"] == ["the checkpoint file knows 1 newer seals than this export"]


def fork(trail: Trail) -> Trail:
    """The same key, the same first step, another history from there: what a forger with the key can make."""
    other = Trail(seed=trail.seed)
    other.sealed = {tenant: steps[:1] for tenant, steps in trail.sealed.items()}
    first = trail.sealed[A][0][0]
    for tenant, steps in other.sealed.items():
        seal = steps[0][0].seal
        from limen.control.audit.rules import chain

        other.heads[tenant] = chain.TenantHead(1, seal.count, chain.seal_hash(seal))
        other.chain_head = chain.ChainHead(
            1, first.signed.checkpoint.at, chain.checkpoint_hash(first.signed.checkpoint)
        )
    other.now = START + timedelta(hours=1)
    other.grow([A, B], [3, 5])
    return other


def test_fork_is_found_with_an_earlier_checkpoint(trail: Trail, tmp_path: Path) -> None:
    forked = fork(trail).export(A)
    assert findings(trail, forked, tmp_path) == []
    assert findings(trail, forked, tmp_path, trusted=trail.kept(A))[0] == (
        "8: fork: seal 3 is not the one in the trusted checkpoint (its line 1)"
    )


def test_fork_is_found_with_the_checkpoint_file(trail: Trail, tmp_path: Path) -> None:
    found = findings(trail, fork(trail).export(A), tmp_path, outside=b"".join(trail.outside))
    assert "4: fork: seal 2 is not the one in the checkpoint file (its line 2)" in found
    assert "4: fork: checkpoint 2 is not the one in the checkpoint file" in found


def test_later_trail_continues_an_earlier_checkpoint(tmp_path: Path) -> None:
    trail = Trail()
    trail.grow([A, B], [2])
    kept = trail.kept(A)
    trail.grow([B], [1, 1])
    trail.grow([A, B], [2])
    assert findings(trail, trail.export(A), tmp_path, trusted=kept) == []
    one_line = json.loads(trail.outside[0])
    assert findings(trail, trail.export(A), tmp_path, trusted=one_line) == []


def test_a_trusted_checkpoint_must_verify_itself(trail: Trail, export: Lines, tmp_path: Path) -> None:
    kept = copy.deepcopy(trail.kept(A))
    kept["seal"]["root"] = "ab" * 32
    found = findings(trail, export, tmp_path, trusted=kept)
    assert found == ["0: the trusted checkpoint itself does not verify: seal 3 is not under the root of checkpoint 3"]


@pytest.mark.parametrize("spoil", ["drop", "swap", "edit", "add"])
def test_spoiled_checkpoint_file(trail: Trail, export: Lines, tmp_path: Path, spoil: str) -> None:
    rows = list(trail.outside)
    if spoil == "drop":
        del rows[1]
    elif spoil == "swap":
        rows[1], rows[2] = rows[2], rows[1]
    elif spoil == "edit":
        row = json.loads(rows[1])
        row["seals"][0]["hash"] = "ab" * 32
        rows[1] = lines.line(row)
    else:
        row = json.loads(rows[1])
        row["seals"].append(row["seals"][0])
        rows[1] = lines.line(row)
    found = findings(trail, export, tmp_path, outside=b"".join(rows))
    assert found[0].startswith("0: the checkpoint file itself does not verify: checkpoint file, line 2")


def test_erased_values_leave_the_proof_whole(trail: Trail, export: Lines, tmp_path: Path) -> None:
    export[5] |= {"values": None, "salts": None}
    result = check(text(export), trail.public_key, tmp_path)
    assert (result["ok"], result["erased"]) == (True, 1)


def test_values_that_did_not_open_are_named(trail: Trail, export: Lines, tmp_path: Path) -> None:
    export[5] |= {"values": None, "salts": None, "unreadable": True}
    assert findings(trail, export, tmp_path) == ["6: its sealed values were damaged in the database and do not open"]


def window_of(trail: Trail) -> Window:
    """Around the records of tenant A under seal 2."""
    seal = trail.sealed[A][1][0].seal
    return Window(seal.first_at, seal.last_at + timedelta(microseconds=1))


def test_a_window_opens_only_its_records(trail: Trail, tmp_path: Path) -> None:
    export = trail.export(A, window_of(trail))
    assert [line["type"] for line in export] == ["header", "seal", "seal", "record", "record", "record", "seal", "end"]
    result = check(text(export), trail.public_key, tmp_path, trusted=trail.kept(A), outside=b"".join(trail.outside))
    assert (result["ok"], result["records"], result["outside_window"]) == (True, 3, 0)
    narrow = trail.export(A, Window(window_of(trail).since, window_of(trail).since + timedelta(seconds=1)))  # type: ignore[operator]
    result = check(text(narrow), trail.public_key, tmp_path)
    assert (result["ok"], result["records"], result["outside_window"], result["erased"]) == (True, 3, 2, 0)


def test_a_window_cannot_hide_a_seal_inside_it(trail: Trail, tmp_path: Path) -> None:
    export = trail.export(A, window_of(trail))
    hidden = [*export[:3], *export[6:]]
    hidden[2] = {"type": "seal", "seal": hidden[2]["seal"]}
    hidden[-1] |= {"records": 0}
    assert findings(trail, hidden, tmp_path) == ["3: seal 2: its 3 records were left out"]


def test_left_out_records_cannot_move_their_times(trail: Trail, tmp_path: Path) -> None:
    """The times of a seal are under its hash: moving them out of the window breaks the chain."""
    export = json.loads(json.dumps(trail.export(A, window_of(trail))))
    hidden = [*export[:3], *export[6:]]
    seal = hidden[2]["seal"]
    seal["first_at"] = seal["last_at"] = "2026-04-01T00:00:00.000000Z"
    hidden[2] = {"type": "seal", "seal": seal}
    hidden[-1] |= {"records": 0}
    assert findings(trail, hidden, tmp_path) == [
        "4: seal 3 does not continue the seal before it: one of them was rewritten"
    ]


def _paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(value, dict):
        return [p for key, item in value.items() for p in _paths(item, (*path, key))]
    if isinstance(value, list):
        return [p for index, item in enumerate(value) for p in _paths(item, (*path, index))]
    return [path]


# What a header says besides tenant and format is not under a signature; the verifier prints it instead.
_UNSIGNED = {(0, "exported_at"), (0, "since"), (0, "until"), (0, "public_key")}
_junk = st.none() | st.booleans() | st.integers(-3, 10**20) | st.text(max_size=5) | st.just([]) | st.just({})


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_no_value_of_an_export_can_be_replaced(trail: Trail, tmp_path: Path, data: st.DataObject) -> None:
    """Any leaf of the JSON, by anything: found, and never a crash."""
    export: Lines = json.loads(json.dumps(trail.export(A)))
    path = data.draw(st.sampled_from([p for p in _paths(export) if p not in _UNSIGNED]))
    holder: Any = export
    for key in path[:-1]:
        holder = holder[key]
    value = data.draw(_junk.filter(lambda junk: json.dumps(junk) != json.dumps(holder[path[-1]])))
    holder[path[-1]] = value
    assert findings(trail, export, tmp_path), f"replacing {path} by {value!r} was not noticed"


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_no_sequence_of_line_edits_goes_unnoticed(trail: Trail, tmp_path: Path, data: st.DataObject) -> None:
    """Delete, repeat and move lines at will: only the sound order verifies."""
    sound: Lines = trail.export(A)
    order = data.draw(st.lists(st.integers(0, len(sound) - 1), max_size=len(sound) + 2))
    edited = [sound[i] for i in order]
    same = order == list(range(len(sound)))
    assert bool(findings(trail, edited, tmp_path)) is not same


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_no_byte_of_a_file_can_be_flipped(trail: Trail, tmp_path: Path, data: st.DataObject) -> None:
    raw = bytearray(text(trail.export(A)))
    first = raw.index(b"\n") + 1  # the header's unsigned part is printed, not proved
    place = data.draw(st.integers(first, len(raw) - 1))
    raw[place] ^= 1 << data.draw(st.integers(0, 7))
    assert check(bytes(raw), trail.public_key, tmp_path)["findings"]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from(["a", "b", "ab"]), st.integers(1, 9)), min_size=1, max_size=6))
def test_every_trail_verifies_and_continues_each_of_its_checkpoints(
    tmp_path: Path, history: list[tuple[str, int]]
) -> None:
    trail, kept = Trail(), []
    for who, batch in history:
        trail.grow([{"a": A, "b": B}[letter] for letter in who], [batch])
        if "a" in who:
            kept.append(trail.kept(A))
    if not kept:
        return
    export = text(trail.export(A))
    for checkpoint in kept:
        result = check(export, trail.public_key, tmp_path, trusted=checkpoint, outside=b"".join(trail.outside))
        assert result["ok"], result
        assert result["records"] == sum(batch for who, batch in history if "a" in who)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda line: line.replace(b'"type":"record"', b'"type":"record","type":"record"', 1),
        lambda line: line.replace(b'"values":', b'"values":null,"values":', 1),
        lambda line: line.replace(b'{"type"', b'{"extra":1,"type"', 1),
        lambda line: line.replace(b'"number":1', b'"number":1.0', 1),
        lambda line: b"\xef\xbb\xbf" + line,
        lambda line: line.replace(b'"number"', '"nümber"'.encode(), 1),
    ],
)
def test_lines_that_two_readers_could_read_differently(
    trail: Trail, export: Lines, tmp_path: Path, spoil: Callable[[bytes], bytes]
) -> None:
    rows = text(export).splitlines(keepends=True)
    rows[2] = spoil(rows[2])
    assert any(f["line"] == 3 for f in check(b"".join(rows), trail.public_key, tmp_path)["findings"])
