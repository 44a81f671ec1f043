"""``sys/…``: health, seal status, leader, mounts and capabilities, as far as clients of KV v2 ask."""

from typing import Any
from uuid import NAMESPACE_URL, uuid5

from starlette.responses import Response

from limen import __version__
from limen.control.vault.dialect.message import Asked, envelope, respond
from limen.control.vault.errors import PassageRefused
from limen.control.vault.model import Bearer, Mount
from limen.control.vault.ports import ValueCustody
from limen.control.vault.rules import parameters
from limen.control.vault.service import Door
from limen.kernel.access import Action
from limen.kernel.clock import Clock
from limen.kernel.errors import LimenError, Malformed

API_VERSION = f"2.7.2+limen.{__version__}"
"""The release of OpenBao whose API this is, as clients compare it, then our own."""

MAX_PATHS = 100
_CLUSTER = {"cluster_name": "limen", "cluster_id": str(uuid5(NAMESPACE_URL, "limen:vault"))}
_CAPABILITIES = {
    Action.READ: ("read",),
    Action.WRITE: ("create", "patch", "update"),
    Action.LIST: ("list",),
    Action.DELETE: ("delete",),
}
# What each kind of path asks for: reading under undelete/ makes no sense, whatever the policy allows elsewhere.
_ACTIONS_OF_KIND = {
    "data": frozenset({Action.READ, Action.WRITE, Action.DELETE}),
    "metadata": frozenset({Action.READ, Action.WRITE, Action.DELETE, Action.LIST}),
}
_UPDATE_BY = {"delete": Action.DELETE, "destroy": Action.DELETE, "undelete": Action.WRITE}


class System:
    """What a client may ask about the server itself."""

    def __init__(self, door: Door, custody: ValueCustody, clock: Clock) -> None:
        self._door = door
        self._custody = custody
        self._clock = clock

    async def health(self, asked: Asked) -> Response:
        """``sys/health``: 200, or 503 while values cannot be opened. Needs no token."""
        sealed = await self._sealed()
        wanted = asked.request.query_params.get("sealedcode" if sealed else "activecode")
        status = _status(wanted, 503 if sealed else 200)
        return respond(
            status,
            {
                "initialized": True,
                "sealed": sealed,
                "standby": False,
                "replication_performance_mode": "disabled",
                "replication_dr_mode": "disabled",
                "server_time_utc": int(self._clock.now().timestamp()),
                "version": API_VERSION,
                **_CLUSTER,
            },
        )

    async def seal_status(self, asked: Asked) -> Response:
        """``sys/seal-status``. Needs no token."""
        return respond(
            200,
            {
                "type": "limen-keyd",
                "initialized": True,
                "sealed": await self._sealed(),
                "t": 0,
                "n": 0,
                "progress": 0,
                "nonce": "",
                "recovery_seal": True,
                "version": API_VERSION,
                "migration": False,
                "storage_type": "postgresql",
                **_CLUSTER,
            },
        )

    async def leader(self, asked: Asked) -> Response:
        """``sys/leader``. Needs no token."""
        return respond(200, {"ha_enabled": False})

    async def initialised(self, asked: Asked) -> Response:
        """``sys/init``. Needs no token."""
        return respond(200, {"initialized": True})

    async def mounts(self, asked: Asked) -> Response:
        """``sys/mounts``: those that the bearer can reach."""
        bearer = await self._door.bearer(asked.presented())
        found = {f"{mount.name}/": _mount(mount) for mount in await self._door.mounts(bearer)}
        return envelope(found, beside=found)

    async def mount(self, asked: Asked, path: str) -> Response:
        """``sys/internal/ui/mounts/<path>``: the CLI asks it before every ``kv`` command."""
        bearer = await self._door.bearer(asked.presented())
        if not path:
            found = {f"{mount.name}/": _mount(mount) for mount in await self._door.mounts(bearer)}
            return envelope({"auth": {}, "secret": found})
        mount = await self._reachable(bearer, path)
        if mount is None:
            raise PassageRefused
        return envelope({**_mount(mount), "path": f"{mount.name}/"})

    async def capabilities(self, asked: Asked) -> Response:
        """``sys/capabilities-self``."""
        presented = asked.presented()
        paths = _paths_of(await asked.body())
        bearer = await self._door.bearer(presented)
        found: dict[str, Any] = {path: await self._capabilities(bearer, path) for path in paths}
        if len(paths) == 1:
            found["capabilities"] = found[paths[0]]
        return envelope(found, beside=found)

    async def _capabilities(self, bearer: Bearer, path: str) -> list[str]:
        mount = await self._reachable(bearer, path)
        if mount is None:
            return ["deny"]
        kind = path.strip("/").partition("/")[2].partition("/")[0]
        allowed = await self._door.allowed(bearer, mount)
        if kind in _UPDATE_BY:
            return ["update"] if _UPDATE_BY[kind] in allowed else ["deny"]
        actions = allowed & _ACTIONS_OF_KIND.get(kind, frozenset())
        return sorted(name for action in actions for name in _CAPABILITIES[action]) or ["deny"]

    async def _reachable(self, bearer: Bearer, path: str) -> Mount | None:
        name = path.strip("/").partition("/")[0]
        return next((mount for mount in await self._door.mounts(bearer) if mount.name == name), None)

    async def _sealed(self) -> bool:
        try:
            await self._custody.health()
        except LimenError:
            return True
        return False


def _paths_of(body: dict[str, Any]) -> list[str]:
    given = body.get("paths", body.get("path"))
    paths = [given] if isinstance(given, str) else given
    if not paths or not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
        raise Malformed("paths must be supplied", fix='send {"paths": ["secret/data/app"]}')
    if len(paths) > MAX_PATHS:
        raise Malformed("too many paths in one call", fix=f"send at most {MAX_PATHS}")
    return paths


def _status(wanted: str | None, default: int) -> int:
    if wanted is None:
        return default
    status = parameters.integer(wanted, "status code")
    return status if 200 <= status <= 599 else default


def _mount(mount: Mount) -> dict[str, Any]:
    return {
        "accessor": f"kv_{mount.id.hex[-8:]}",
        "config": {"default_lease_ttl": 0, "force_no_cache": False, "max_lease_ttl": 0},
        "deprecation_status": "supported",
        "description": "Limen vault",
        "external_entropy_access": False,
        "local": False,
        "options": {"version": "2"},
        "plugin_version": "",
        "running_plugin_version": API_VERSION,
        "running_sha256": "",
        "seal_wrap": False,
        "type": "kv",
        "uuid": str(mount.id),
    }
