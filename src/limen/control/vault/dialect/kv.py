"""KV v2: ``<mount>/{data,metadata,delete,undelete,destroy}/<path>``."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
from starlette.responses import Response

from limen.control.vault.dialect.message import Asked, decode, encode, envelope, instant, nothing, respond
from limen.control.vault.errors import VersionGone
from limen.control.vault.model import MetadataChange, Reading, SecretMetadata, Version
from limen.control.vault.rules import parameters, patches
from limen.control.vault.service import VaultService
from limen.kernel.errors import LimenError, Malformed

PATCH_TYPE = "application/merge-patch+json"
_INVALID_PATH = (
    "Invalid path for a versioned K/V secrets engine. See the API docs for the appropriate API endpoints to use. "
    "If using the OpenBao CLI, use 'bao kv get' for this operation."
)
_ROOT_ONLY_LISTS = "Non-listing operations on the root of a K/V v2 mount are not supported."


class Unsupported(LimenError):
    """The path exists, the verb does not."""

    status = 405
    code = "unsupported"

    def __init__(self) -> None:
        super().__init__("1 error occurred:\n\t* unsupported operation\n\n")


class WrongType(LimenError):
    """PATCH with another content type than a merge patch."""

    status = 415
    code = "wrong-type"

    def __init__(self) -> None:
        super().__init__(f"PATCH requires Content-Type of {PATCH_TYPE}")


_Handler = Callable[[Asked, str, str], Awaitable[Response]]


class KeyValues:
    """Routes of every mount."""

    def __init__(self, vault: VaultService) -> None:
        self._vault = vault
        self._secrets = vault.secrets
        self._handlers: dict[tuple[str, str], _Handler] = {
            ("data", "GET"): self._read,
            ("data", "POST"): self._write,
            ("data", "PUT"): self._write,
            ("data", "PATCH"): self._patch,
            ("data", "DELETE"): self._delete_current,
            ("metadata", "GET"): self._metadata,
            ("metadata", "LIST"): self._list,
            ("metadata", "POST"): self._set_metadata,
            ("metadata", "PUT"): self._set_metadata,
            ("metadata", "PATCH"): self._patch_metadata,
            ("metadata", "DELETE"): self._delete_all,
            ("delete", "POST"): self._delete,
            ("delete", "PUT"): self._delete,
            ("undelete", "POST"): self._undelete,
            ("undelete", "PUT"): self._undelete,
            ("destroy", "POST"): self._destroy,
            ("destroy", "PUT"): self._destroy,
        }
        self._kinds = frozenset(kind for kind, _ in self._handlers)

    async def answer(self, asked: Asked) -> Response:
        """Route by mount, kind and verb."""
        mount, _, below = asked.path.partition("/")
        kind, separator, path = below.partition("/")
        method = "LIST" if asked.method == "GET" and kind == "metadata" and _lists(asked) else asked.method
        if kind not in self._kinds:
            await self._vault.door.bearer(asked.presented())
            return envelope(None, status=404, warnings=[_INVALID_PATH])
        if not separator and method != "LIST":
            await self._vault.door.bearer(asked.presented())
            return envelope(None, status=404, warnings=[_ROOT_ONLY_LISTS])
        handler = self._handlers.get((kind, method))
        if handler is None:
            await self._vault.door.bearer(asked.presented())
            raise Unsupported
        return await handler(asked, mount, path)

    # --- data ---------------------------------------------------------------------------------------------

    async def _read(self, asked: Asked, mount: str, path: str) -> Response:
        presented = asked.presented()
        version = parameters.integer(asked.request.query_params.get("version") or "0", "version")
        try:
            reading = await self._secrets.read(presented, mount, path, max(0, version))
        except VersionGone as gone:
            return envelope(_reading(gone.reading), status=404)
        return envelope(_reading(reading))

    async def _write(self, asked: Asked, mount: str, path: str) -> Response:
        presented = asked.presented()
        body = await asked.body()
        value = encode(_data_of(body))
        written = await self._secrets.write(presented, mount, path, value, _cas_of(body))
        return envelope(_dates(written.version, written.custom_metadata))

    async def _patch(self, asked: Asked, mount: str, path: str) -> Response:
        presented = asked.presented()
        body = await _merge_patch(asked)
        change, cas = _data_of(body), _cas_of(body)

        def merge(current: bytes) -> bytes:
            try:
                return encode(patches.merge(decode(current), change))
            except RecursionError:
                raise Malformed("the document is nested too deeply", fix="send a flatter document") from None

        try:
            written = await self._secrets.patch(presented, mount, path, merge, cas)
        except VersionGone as gone:
            return envelope(_dates(gone.reading.version, gone.reading.custom_metadata), status=404)
        return envelope(_dates(written.version, written.custom_metadata))

    async def _delete_current(self, asked: Asked, mount: str, path: str) -> Response:
        await self._secrets.delete_current(asked.presented(), mount, path)
        return nothing()

    # --- versions -----------------------------------------------------------------------------------------

    async def _delete(self, asked: Asked, mount: str, path: str) -> Response:
        presented = asked.presented()
        numbers = parameters.version_numbers((await asked.body()).get("versions"))
        await self._secrets.delete(presented, mount, path, numbers)
        return nothing()

    async def _undelete(self, asked: Asked, mount: str, path: str) -> Response:
        presented = asked.presented()
        numbers = parameters.version_numbers((await asked.body()).get("versions"))
        await self._secrets.undelete(presented, mount, path, numbers)
        return nothing()

    async def _destroy(self, asked: Asked, mount: str, path: str) -> Response:
        presented = asked.presented()
        numbers = parameters.version_numbers((await asked.body()).get("versions"))
        await self._secrets.destroy(presented, mount, path, numbers)
        return nothing()

    # --- metadata -----------------------------------------------------------------------------------------

    async def _metadata(self, asked: Asked, mount: str, path: str) -> Response:
        if path.endswith("/") or not path:
            await self._vault.door.bearer(asked.presented())
            return respond(404, {"errors": []})
        return envelope(_metadata(await self._secrets.metadata(asked.presented(), mount, path)))

    async def _list(self, asked: Asked, mount: str, path: str) -> Response:
        presented, query = asked.presented(), asked.request.query_params
        limit = parameters.integer(query.get("limit") or "0", "limit")
        names = await self._secrets.children(
            presented, mount, path, query.get("after", ""), limit if limit > 0 else None
        )
        return envelope({"keys": names})

    async def _set_metadata(self, asked: Asked, mount: str, path: str) -> Response:
        presented = asked.presented()
        body = await asked.body()
        custom = body.get("custom_metadata") if "custom_metadata" in body else ...
        replaced = None if custom is ... else parameters.custom_metadata(custom)
        await self._secrets.set_metadata(presented, mount, path, _change_of(body, custom_metadata=replaced))
        return nothing()

    async def _patch_metadata(self, asked: Asked, mount: str, path: str) -> Response:
        presented = asked.presented()
        body = await _merge_patch(asked)
        change = _change_of(body, custom_patch=_custom_patch_of(body))
        await self._secrets.set_metadata(presented, mount, path, change, create=False)
        return nothing()

    async def _delete_all(self, asked: Asked, mount: str, path: str) -> Response:
        await self._secrets.delete_all(asked.presented(), mount, path)
        return nothing()


def _lists(asked: Asked) -> bool:
    wanted = asked.request.query_params.get("list")
    return wanted is not None and parameters.flag(wanted, "list")


async def _merge_patch(asked: Asked) -> dict[str, Any]:
    if asked.request.headers.get("content-type", "").partition(";")[0].strip() != PATCH_TYPE:
        raise WrongType
    return await asked.body()


def _data_of(body: Mapping[str, Any]) -> dict[str, Any] | None:
    if "data" not in body:
        raise Malformed("no data provided", fix='send {"data": {...}}')
    data = body["data"]
    if data is not None and not isinstance(data, dict):
        raise Malformed("error converting input for field 'data': expected a map", fix='send {"data": {...}}')
    return data


def _cas_of(body: Mapping[str, Any]) -> int | None:
    options = body.get("options")
    if options is None:
        return None
    if not isinstance(options, dict):
        raise Malformed("error converting input for field 'options': expected a map", fix="send an object")
    cas = options.get("cas")
    if cas is None:
        return None
    try:
        return parameters.integer(cas, "cas")
    except Malformed:
        raise Malformed("error parsing check-and-set parameter", fix="send the version that you read") from None


def _change_of(
    body: Mapping[str, Any],
    *,
    custom_metadata: Mapping[str, str] | None = None,
    custom_patch: Mapping[str, str | None] | None = None,
) -> MetadataChange:
    """The settings named in ``body``; ``null`` sets one back to its default."""
    return MetadataChange(
        max_versions=_named(body, "max_versions", parameters.version_limit),
        cas_required=_named(body, "cas_required", parameters.flag),
        delete_after=_named(body, "delete_version_after", parameters.seconds),
        custom_metadata=custom_metadata,
        custom_patch=custom_patch,
    )


def _named(body: Mapping[str, Any], field: str, parse: Callable[[object, str], Any]) -> Any:
    if field not in body:
        return None
    return parse(0 if body[field] is None else body[field], field)


def _custom_patch_of(body: Mapping[str, Any]) -> Mapping[str, str | None] | None:
    patch = body.get("custom_metadata")
    if not isinstance(patch, dict):
        return None if patch is None else parameters.custom_metadata(patch)
    kept = parameters.custom_metadata({key: value for key, value in patch.items() if value is not None})
    return {**kept, **{key: None for key, value in patch.items() if value is None}}


def _dates(version: Version, custom: Mapping[str, str] | None) -> dict[str, Any]:
    return {
        "created_time": instant(version.created_at),
        "custom_metadata": custom,
        "deletion_time": instant(version.deletion_time) if version.deletion_time else "",
        "destroyed": version.destroyed,
        "version": version.number,
    }


def _reading(reading: Reading) -> dict[str, Any]:
    value = None if reading.value is None else msgspec.Raw(reading.value)
    return {"data": value, "metadata": _dates(reading.version, reading.custom_metadata)}


def _metadata(found: SecretMetadata) -> dict[str, Any]:
    head = found.head
    return {
        "cas_required": head.cas_required,
        "created_time": instant(head.created_at),
        "current_metadata_version": head.metadata_version,
        "current_version": head.current_version,
        "custom_metadata": found.custom_metadata,
        "delete_version_after": parameters.go_duration(head.delete_after),
        "max_versions": head.max_versions,
        "metadata_cas_required": False,
        "oldest_version": head.oldest_version,
        "updated_time": instant(head.updated_at),
        "versions": {
            str(version.number): {
                "created_time": instant(version.created_at),
                "deletion_time": instant(version.deletion_time) if version.deletion_time else "",
                "destroyed": version.destroyed,
            }
            for version in found.versions
        },
    }
