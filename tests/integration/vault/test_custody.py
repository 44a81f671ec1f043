"""The vault on the real custody daemon: values sealed and opened there, fields under its leases."""

import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from limen.control.custody.service import CustodyFieldCipher, KeydClient
from limen.db.database import Database
from limen.db.source import SocketSource
from tests.integration.keyd.conftest import Keyd
from tests.integration.vault.world import VaultWorld
from tests.support.postgres import add_tenant


@pytest.fixture
def directory() -> Iterator[Path]:
    """A short path, since it holds a socket."""
    path = Path(tempfile.mkdtemp(prefix="limen-vault-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
async def keyd(directory: Path) -> AsyncIterator[Keyd]:
    """The daemon, not started."""
    daemon = Keyd(directory)
    yield daemon
    if daemon.process is not None:
        await daemon.stop()


@pytest.mark.row("V1", "T3")
async def test_values_are_sealed_by_the_daemon(keyd: Keyd, scratch_source: SocketSource) -> None:
    client: KeydClient = await keyd.start("--allow-uid", str(os.geteuid()))
    cipher = CustodyFieldCipher(client)
    async with Database(scratch_source, cipher) as database:
        tenants = [await add_tenant(database, slug) for slug in ("tenant-a", "tenant-b")]
        for tenant in tenants:
            await client.create_tenant(tenant)
        world = VaultWorld(database, cipher, custody=client)
        clients = [world.client((await world.allowed(tenant, await world.mount(tenant))).text) for tenant in tenants]
        for number, vault in enumerate(clients):
            await vault.put("/secret/data/x", json={"data": {"n": number}})
            await vault.post("/secret/metadata/x", json={"custom_metadata": {"owner": str(number)}})
        for number, vault in enumerate(clients):
            read = (await vault.get("/secret/data/x")).json()["data"]
            assert read["data"] == {"n": number}
            assert read["metadata"]["custom_metadata"] == {"owner": str(number)}
        rows = [
            (await database.query(tenant, "SELECT blob FROM vault_versions WHERE tenant_id = %s", (tenant,)))[0]
            for tenant in tenants
        ]
        await database.query(
            tenants[1],
            "UPDATE vault_versions SET blob = %s WHERE tenant_id = %s",
            (rows[0]["blob"], tenants[1]),
        )
        moved = await clients[1].get("/secret/data/x")
        assert (moved.status_code, moved.json()) == (500, {"errors": ["internal error"]})
        # A value of 1 MiB minus its frame passes through; the daemon away is 503 and sealed.
        large = "x" * ((1 << 20) - 64)
        assert (await clients[0].put("/secret/data/large", json={"data": {"v": large}})).status_code == 200
        assert (await clients[0].get("/secret/data/large")).json()["data"]["data"] == {"v": large}
        await keyd.stop()
        assert (await clients[0].get("/secret/data/x")).status_code == 503
        assert (await clients[0].get("/sys/health")).status_code == 503
    await client.close()
