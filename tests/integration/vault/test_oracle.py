"""The same operations on Limen and on a real OpenBao server give the same answers (dates and ids apart)."""

from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from limen.kernel.ids import new_id
from tests.integration.vault.openbao import oracle
from tests.integration.vault.world import VaultWorld
from tests.support.postgres import Tenants

Operation = tuple[str, str, Any, dict[str, str]]
MERGE = {"Content-Type": "application/merge-patch+json"}
PATHS = ("a", "d/b", "d/b/c")

_path = st.sampled_from(PATHS)
_number = st.integers(0, 5)
_versions = st.lists(st.one_of(_number, _number.map(str)), min_size=1, max_size=3)
# No null inside an object inside a list: OpenBao's merge patch drops it, RFC 7396 (and Limen) keeps lists as they are.
_leaf = st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=3), st.just([None, {"k": 1}]))
_object = st.dictionaries(st.sampled_from("xyz"), st.one_of(_leaf, st.dictionaries(st.sampled_from("xyz"), _leaf)))
_options = st.one_of(
    st.just({}), st.just({"options": None}), _number.map(lambda n: {"options": {"cas": n}}),
    _number.map(lambda n: {"options": {"cas": str(n)}}), st.just({"options": {}}),
)  # fmt: skip
_settings = st.fixed_dictionaries(
    {},
    optional={
        "max_versions": st.one_of(st.integers(0, 3), st.sampled_from(["2", None, "x"])),
        "cas_required": st.sampled_from([True, False, "true", None]),
        "delete_version_after": st.sampled_from(["1h", "90s", "0s", 30, "1h30m5s", "", None, "abc"]),
        "custom_metadata": st.one_of(
            st.none(),
            st.dictionaries(st.sampled_from(["k", "l"]), st.sampled_from(["v", 1, True, "é"])),
            st.sampled_from(["text", {"k": []}, {"k": ""}, {"": "v"}, {"k": "v" * 513}, {"k" * 129: "v"}]),
        ),
    },
)
_patched_settings = st.dictionaries(st.sampled_from(["k", "l"]), st.sampled_from(["v", None, "w"])).map(
    lambda custom: {"custom_metadata": custom}
)


def _call(method: str, area: str, body: Any = None, headers: dict[str, str] | None = None) -> st.SearchStrategy[Any]:
    body = body if body is not None else st.none()
    return st.tuples(st.just(method), _path.map(f"{area}/{{}}".format), body, st.just(headers or {}))


# A malformed parameter is refused by Limen at once, by OpenBao's PATCH only after the look-up: so only for writes.
_broken = st.sampled_from([{"data": {}, "options": {"cas": "x"}}, {"data": "x"}, {"data": [1]}, {"options": {}}])
_write = st.tuples(_object, _options).map(lambda pair: {"data": pair[0], **pair[1]})
OPERATION = st.one_of(
    _call("POST", "data", _write),
    _call("PUT", "data", st.one_of(_write, _broken)),
    _call("PATCH", "data", _write, MERGE),
    _call("DELETE", "data"),
    st.tuples(st.just("GET"), st.builds("data/{}?version={}".format, _path, _number), st.none(), st.just({})),
    _call("GET", "data"),
    _call("POST", "delete", st.one_of(_versions.map(lambda v: {"versions": v}), st.just({"versions": []}))),
    _call("PUT", "undelete", _versions.map(lambda v: {"versions": v})),
    _call("POST", "destroy", _versions.map(lambda v: {"versions": v})),
    _call("POST", "metadata", _settings),
    _call("PATCH", "metadata", _patched_settings, MERGE),
    _call("DELETE", "metadata"),
    _call("GET", "metadata"),
)
LISTINGS = ("metadata/?list=true", "metadata/d?list=true", "metadata/d/b?list=true", "metadata/none?list=true")


@pytest.mark.row("V1", "V2")
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
)
@given(operations=st.lists(OPERATION, min_size=1, max_size=25))
async def test_limen_answers_as_openbao_does(
    operations: list[Operation], pair: tuple[httpx.AsyncClient, httpx.AsyncClient]
) -> None:
    folder = new_id().hex
    steps = [*operations, *(("GET", f"metadata/{path}", None, {}) for path in PATHS)]
    steps += [("GET", f"data/{path}", None, {}) for path in PATHS]
    steps += [("GET", listing, None, {}) for listing in LISTINGS]
    for method, path, body, headers in steps:
        area, _, rest = path.partition("/")
        url = f"/secret/{area}/{folder}/{rest}"
        expected, actual = [
            await client.request(method, url, json=body, headers=headers) if body is not None
            else await client.request(method, url)
            for client in pair
        ]  # fmt: skip
        assert _comparable(actual) == _comparable(expected), (method, path, body)


@pytest.fixture
async def pair(world: VaultWorld, tenants: Tenants, tmp_path: Path) -> Any:
    """The oracle and Limen."""
    mount = await world.mount(tenants.a)
    async with oracle(tmp_path / "home") as bao, world.client((await world.allowed(tenants.a, mount)).text) as limen:
        yield bao, limen


def _comparable(answer: httpx.Response) -> Any:
    """Status and content without what no two servers share: ids, dates, the wording of a refusal."""
    if answer.status_code in (400, 415):
        return answer.status_code
    if answer.status_code == 404 and not answer.content:  # OpenBao's PATCH of nothing
        return 404, {"errors": []}
    return answer.status_code, _plain(answer.json()) if answer.content else None


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: bool(entry) if key.endswith("_time") else _plain(entry)
            for key, entry in value.items()
            if key != "request_id"
        }
    return [_plain(entry) for entry in value] if isinstance(value, list) else value
