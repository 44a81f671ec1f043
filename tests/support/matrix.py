"""Every route of an API, asked by one tenant for the things of another: the answer is always "not found".

Works from the OpenAPI document alone, so a route that is added later is covered when its router is given. A route
with a path parameter whose name is not in ``ids`` fails the test: say there what the other tenant has of that kind.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import httpx

from limen.kernel.ids import new_id

METHODS = ("get", "post", "put", "patch", "delete")


@dataclass(frozen=True)
class Operation:
    """One method of one path."""

    method: str
    path: str
    permission: str
    parameters: tuple[str, ...]
    body: dict[str, Any] | None

    def __str__(self) -> str:
        return f"{self.method.upper()} {self.path}"


def operations(document: Mapping[str, Any]) -> Iterator[Operation]:
    """All operations of an OpenAPI document."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if method not in METHODS:
                continue
            parameters = tuple(p["name"] for p in operation.get("parameters", ()) if p["in"] == "path")
            content = operation.get("requestBody", {}).get("content", {}).get("application/json")
            body = example(content["schema"], document) if content is not None else None
            yield Operation(method, path, operation.get("x-limen-permission", ""), parameters, body)


def example(schema: Mapping[str, Any], document: Mapping[str, Any]) -> Any:
    """The smallest value that a schema of ours accepts."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return example(document["components"]["schemas"][name], document)
    if "default" in schema:
        return schema["default"]
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    for choice in ("anyOf", "oneOf", "allOf"):
        if choice in schema:
            return example(schema[choice][0], document)
    match schema.get("type"):
        case "object":
            properties = schema.get("properties", {})
            return {name: example(properties[name], document) for name in schema.get("required", ())}
        case "array":
            return [example(schema["items"], document) for _ in range(schema.get("minItems", 0))]
        case "integer" | "number":
            return schema.get("minimum", 1)
        case "boolean":
            return False
    if schema.get("format") == "uuid":
        return str(new_id())
    if schema.get("format") == "date-time":
        return "2026-06-01T12:00:00Z"
    return "x" * max(12, schema.get("minLength", 0))


async def assert_not_found_across(
    client: httpx.AsyncClient,
    document: Mapping[str, Any],
    headers: Mapping[str, str],
    ids: Mapping[str, str],
    bodies: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[Operation]:
    """Ask every operation that takes ids for those in ``ids``; return the operations that were asked.

    ``bodies`` holds, by operation, the fields of a valid body that its schema alone does not tell.
    ``client`` and ``headers`` speak for an owner of one tenant; ``ids`` maps path parameters to things of another.
    For each, an id that nobody has must get the very same answer.
    """
    asked: list[Operation] = []
    wrong: list[str] = []
    for plain in operations(document):
        more = (bodies or {}).get(str(plain), {})
        operation = replace(plain, body={**(plain.body or {}), **more}) if more else plain
        if not operation.parameters or operation.permission == "platform.operate":
            continue
        missing = [name for name in operation.parameters if name not in ids]
        assert not missing, f"{operation}: say in ids what the other tenant has as {missing}"
        theirs = await _ask(client, operation, headers, ids)
        nobodys = await _ask(client, operation, headers, {name: str(new_id()) for name in operation.parameters})
        asked.append(operation)
        if theirs.status_code != 404 or _without_id(theirs) != _without_id(nobodys):
            wrong.append(f"{operation}: {theirs.status_code} {theirs.text} against {nobodys.text}")
    assert not wrong, "\n".join(wrong)
    return asked


async def _ask(
    client: httpx.AsyncClient, operation: Operation, headers: Mapping[str, str], ids: Mapping[str, str]
) -> httpx.Response:
    path = operation.path.format(**{name: ids[name] for name in operation.parameters})
    return await client.request(operation.method.upper(), path, json=operation.body, headers=dict(headers))


def _without_id(response: httpx.Response) -> tuple[int, object]:
    document = response.json() if response.content else None
    if isinstance(document, dict):
        document.pop("id", None)
    return response.status_code, document
