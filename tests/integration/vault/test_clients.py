"""Clients that nobody here wrote, unchanged, over TLS 1.3: the ``bao`` CLI and ``hvac``."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import hvac
import pytest

from tests.integration.vault.openbao import Ran, run_bao
from tests.integration.vault.world import Served, VaultWorld, served
from tests.support.postgres import Tenants


@pytest.fixture
async def server(world: VaultWorld, tmp_path: Path) -> AsyncIterator[Served]:
    """The API on a port of its own."""
    async with served(world.app, tmp_path) as running:
        yield running


@pytest.mark.row("V2")
async def test_the_bao_cli_works_unchanged(world: VaultWorld, tenants: Tenants, server: Served, tmp_path: Path) -> None:
    token = (await world.allowed(tenants.a, await world.mount(tenants.a))).text
    environment = {"BAO_ADDR": server.url, "BAO_CACERT": str(server.ca_file), "BAO_TOKEN": token}

    async def bao(*arguments: str, fails: bool = False) -> Ran:
        ran = await run_bao(tmp_path, list(arguments), environment)
        assert (ran.status != 0) is fails, (arguments, ran)
        return ran

    assert "limen" in (await bao("status")).out
    await bao("kv", "put", "secret/app/db", "user=limen", "password=first")
    assert (await bao("kv", "get", "-field=password", "secret/app/db")).out.strip() == "first"
    await bao("kv", "patch", "secret/app/db", "password=second")
    assert (await bao("kv", "get", "-field=user", "secret/app/db")).out.strip() == "limen"
    await bao("kv", "put", "-cas=1", "secret/app/db", "x=y", fails=True)
    await bao("kv", "rollback", "-version=1", "secret/app/db")
    assert (await bao("kv", "get", "-field=password", "secret/app/db")).out.strip() == "first"
    await bao("kv", "metadata", "put", "-max-versions=5", "-custom-metadata=team=ops", "secret/app/db")
    await bao("kv", "metadata", "patch", "-custom-metadata=stage=test", "secret/app/db")
    described = (await bao("kv", "metadata", "get", "-format=json", "secret/app/db")).out
    assert '"team": "ops"' in described
    assert '"stage": "test"' in described
    assert (await bao("kv", "list", "secret/app")).out.split() == ["Keys", "----", "db"]
    await bao("kv", "delete", "-versions=1,2", "secret/app/db")
    await bao("kv", "undelete", "-versions=2", "secret/app/db")
    assert (await bao("kv", "get", "-version=2", "-field=password", "secret/app/db")).out.strip() == "second"
    await bao("kv", "destroy", "-versions=1", "secret/app/db")
    assert "No value found" in (await bao("kv", "get", "-version=1", "secret/none", fails=True)).err
    await bao("kv", "metadata", "delete", "secret/app/db")
    assert token in (await bao("token", "lookup")).out
    assert "capabilities" not in (await bao("token", "capabilities", "secret/data/x")).err
    await bao("token", "renew", "-increment=2h")
    await bao("kv", "put", "-namespace=tenant-a", "secret/n", "a=b")
    await bao("kv", "get", "-namespace=tenant-b", "secret/n", fails=True)
    await bao("token", "revoke", "-self")
    assert "permission denied" in (await bao("kv", "get", "secret/n", fails=True)).err


@pytest.mark.row("V2", "V3")
@pytest.mark.filterwarnings("ignore:The raise_on_deleted_version parameter:DeprecationWarning")  # hvac's own patch()
async def test_hvac_works_unchanged(world: VaultWorld, tenants: Tenants, server: Served) -> None:
    token = (await world.allowed(tenants.a, await world.mount(tenants.a))).text
    await asyncio.to_thread(_hvac_story, server, token)


def _hvac_story(server: Served, token: str) -> None:
    client = hvac.Client(url=server.url, token=token, verify=str(server.ca_file))
    kv = client.secrets.kv.v2
    assert client.is_authenticated()
    assert client.sys.is_initialized()
    assert not client.sys.is_sealed()
    assert client.sys.read_health_status(method="GET")["sealed"] is False
    assert "secret/" in client.sys.list_mounted_secrets_engines()["data"]
    kv.create_or_update_secret("app/one", {"k": "v", "n": 1.5}, cas=0)
    with pytest.raises(hvac.exceptions.InvalidRequest):
        kv.create_or_update_secret("app/one", {"k": "w"}, cas=0)
    kv.patch("app/one", {"k": "w"})
    read = kv.read_secret_version("app/one", raise_on_deleted_version=True)
    assert read["data"]["data"] == {"k": "w", "n": 1.5}
    assert kv.list_secrets("app")["data"]["keys"] == ["one"]
    kv.update_metadata("app/one", max_versions=4, custom_metadata={"a": "b"})
    assert kv.read_secret_metadata("app/one")["data"]["custom_metadata"] == {"a": "b"}
    kv.delete_latest_version_of_secret("app/one")
    with pytest.raises(hvac.exceptions.InvalidPath):
        kv.read_secret_version("app/one", raise_on_deleted_version=True)
    gone = kv.read_secret_version("app/one", raise_on_deleted_version=False)
    assert gone["data"]["metadata"]["deletion_time"]
    kv.undelete_secret_versions("app/one", [2])
    kv.delete_secret_versions("app/one", [1])
    kv.destroy_secret_versions("app/one", [1])
    kv.delete_metadata_and_all_versions("app/one")
    with pytest.raises(hvac.exceptions.InvalidPath):
        kv.read_secret_metadata("app/one")
    found = client.auth.token.lookup_self()["data"]
    assert found["type"] == "service"
    assert isinstance(found["ttl"], int)
    assert found["expire_time"]
    assert client.auth.token.renew_self(increment=7200)["auth"]["lease_duration"] == 7200
    assert client.sys.get_capabilities(paths=["secret/data/app"])["data"]["capabilities"]
    client.auth.token.revoke_self()
    assert not client.is_authenticated()
    with pytest.raises(hvac.exceptions.Forbidden):
        kv.read_secret_version("app/one", raise_on_deleted_version=True)
