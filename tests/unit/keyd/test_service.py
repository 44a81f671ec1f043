"""What keyd does for each request, and what it never does."""

import json
import os
from pathlib import Path
from uuid import UUID, uuid4

import msgspec
import pytest

from limen.crypto import sealing, signatures
from limen.crypto.aead import AeadKey, Cell
from limen.keyd.service import LEASE_SECONDS
from limen.wire import keyd as wire
from limen.wire.keyd import Purpose, SigningPurpose
from tests.unit.keyd.conftest import CREDENTIAL, Desk, Opener, identity_key

ROW = UUID(int=77)
LEASABLE = (Purpose.FIELDS, Purpose.LOOKUP, Purpose.SESSIONS)


def seal(tenant_id: UUID, plaintext: bytes, **changes: object) -> wire.SealValue:
    request = wire.SealValue(
        tenant_id=tenant_id,
        purpose=Purpose.VAULT,
        table="secrets",
        column="value",
        row_id=ROW,
        revision=1,
        plaintext=plaintext,
    )
    return msgspec.structs.replace(request, **changes)


def open_(tenant_id: UUID, blob: bytes, **changes: object) -> wire.OpenValue:
    request = wire.OpenValue(
        tenant_id=tenant_id,
        purpose=Purpose.VAULT,
        table="secrets",
        column="value",
        row_id=ROW,
        revision=1,
        blob=blob,
    )
    return msgspec.structs.replace(request, **changes)


async def sealed(desk: Desk, tenant_id: UUID, plaintext: bytes = b"value") -> bytes:
    reply = await desk.ask(seal(tenant_id, plaintext))
    assert isinstance(reply, wire.Blob)
    return reply.blob


async def leased(desk: Desk, tenant_id: UUID, purpose: Purpose = Purpose.FIELDS) -> wire.DataKey:
    reply = await desk.ask(wire.LeaseDataKey(tenant_id=tenant_id, purpose=purpose))
    assert isinstance(reply, wire.DataKey)
    return reply


async def stored_credential(desk: Desk, tenant_id: UUID, connection_id: UUID) -> bytes:
    intake = await desk.ask(wire.IntakeKey(tenant_id=tenant_id))
    assert isinstance(intake, wire.PublicKey)
    inbound = sealing.seal_to(intake.key, CREDENTIAL, sealing.context("intake", tenant_id, connection_id))
    reply = await desk.ask(
        wire.AcceptStorageCredential(tenant_id=tenant_id, connection_id=connection_id, sealed=inbound)
    )
    assert isinstance(reply, wire.Blob)
    return reply.blob


async def enrolled(desk: Desk, kind: str, tenant_id: UUID | None) -> tuple[UUID, bytes]:
    private, public = sealing.generate_keypair()
    agent_id = uuid4()
    reply = await desk.ask(
        wire.EnrolAgent(
            agent_id=agent_id, tenant_id=tenant_id, kind=kind, identity_key=identity_key(), sealing_key=public
        )
    )
    assert isinstance(reply, wire.Certificate)
    return agent_id, private


@pytest.mark.row("T3")
@pytest.mark.parametrize("purpose", LEASABLE)
async def test_each_tenant_and_purpose_has_its_own_key(desk: Desk, purpose: Purpose) -> None:
    a, b = await desk.tenant(), await desk.tenant()
    mine = await leased(desk, a, purpose)
    assert mine.lease_seconds == LEASE_SECONDS == 300
    assert len(mine.key) == 32
    assert mine == await leased(desk, a, purpose)
    others = [(await leased(desk, b, purpose)).key]
    others += [
        (await leased(desk, a, p)).key for p in (Purpose.FIELDS, Purpose.LOOKUP, Purpose.SESSIONS) if p != purpose
    ]
    assert mine.key not in others


@pytest.mark.parametrize("purpose", [Purpose.VAULT, Purpose.STORAGE])
async def test_keys_of_the_closed_purposes_are_never_lent(desk: Desk, purpose: Purpose) -> None:
    tenant_id = await desk.tenant()
    assert await desk.refused(wire.LeaseDataKey(tenant_id=tenant_id, purpose=purpose)) == "denied"


async def test_a_tenant_is_made_once(desk: Desk) -> None:
    tenant_id = await desk.tenant()
    before = await leased(desk, tenant_id)
    await desk.ask(wire.CreateTenant(tenant_id=tenant_id))
    assert await leased(desk, tenant_id) == before


async def test_an_unknown_tenant_has_nothing(desk: Desk) -> None:
    nobody = uuid4()
    for request in (
        wire.LeaseDataKey(tenant_id=nobody, purpose=Purpose.FIELDS),
        wire.IntakeKey(tenant_id=nobody),
        seal(nobody, b"x"),
        wire.RotateDataKey(tenant_id=nobody, purpose=Purpose.FIELDS),
    ):
        assert await desk.refused(request) == "not-found"


@pytest.mark.row("T3")
async def test_a_vault_value_opens_only_where_it_was_sealed(desk: Desk) -> None:
    a, b = await desk.tenant(), await desk.tenant()
    blob = await sealed(desk, a, b"hunter2")
    assert await desk.ask(open_(a, blob)) == wire.Plaintext(plaintext=b"hunter2")
    assert await desk.refused(open_(b, blob)) == "unreadable"
    for change in (
        {"table": "t"},
        {"column": "c"},
        {"row_id": uuid4()},
        {"revision": 2},
        {"blob": blob[:-1]},
        {"blob": b""},
    ):
        assert await desk.refused(msgspec.structs.replace(open_(a, blob), **change)) == "unreadable"


@pytest.mark.parametrize("revision", [-1, 2**63])
async def test_an_impossible_revision_is_malformed(desk: Desk, revision: int) -> None:
    tenant_id = await desk.tenant()
    assert await desk.refused(seal(tenant_id, b"x", revision=revision)) == "malformed"


@pytest.mark.row("F3")
@pytest.mark.parametrize("purpose", [purpose for purpose in Purpose if purpose is not Purpose.VAULT])
async def test_only_vault_values_are_sealed_and_opened(desk: Desk, purpose: Purpose) -> None:
    tenant_id = await desk.tenant()
    stored = await stored_credential(desk, tenant_id, ROW)
    assert await desk.refused(seal(tenant_id, b"x", purpose=purpose)) == "denied"
    assert await desk.refused(open_(tenant_id, stored, purpose=purpose)) == "denied"


@pytest.mark.row("F3")
async def test_a_stored_credential_does_not_open_as_a_vault_value(desk: Desk) -> None:
    tenant_id = await desk.tenant()
    stored = await stored_credential(desk, tenant_id, ROW)
    as_vault = open_(tenant_id, stored, table="connections", column="credential", revision=0)
    assert await desk.refused(as_vault) == "unreadable"


@pytest.mark.row("F3")
async def test_a_credential_reaches_an_enrolled_file_agent_bound_to_its_grant(desk: Desk) -> None:
    tenant_id, connection_id, grant_id = await desk.tenant(), uuid4(), uuid4()
    stored = await stored_credential(desk, tenant_id, connection_id)
    agent_id, private = await enrolled(desk, "sftp", None)
    reply = await desk.ask(
        wire.ResealStorageCredential(
            tenant_id=tenant_id, connection_id=connection_id, grant_id=grant_id, agent_id=agent_id, blob=stored
        )
    )
    assert isinstance(reply, wire.Blob)
    bound = sealing.context("storage", tenant_id, connection_id, grant_id)
    assert sealing.open_sealed(private, reply.blob, bound) == CREDENTIAL
    assert CREDENTIAL not in stored


@pytest.mark.row("F3")
async def test_a_credential_goes_nowhere_else(desk: Desk) -> None:
    a, b, connection_id = await desk.tenant(), await desk.tenant(), uuid4()
    stored = await stored_credential(desk, a, connection_id)
    platform, _ = await enrolled(desk, "sftp", None)
    request = wire.ResealStorageCredential(
        tenant_id=a, connection_id=connection_id, grant_id=uuid4(), agent_id=platform, blob=stored
    )

    async def refused(**changes: object) -> str:
        return await desk.refused(msgspec.structs.replace(request, **changes))

    assert await refused(agent_id=uuid4()) == "not-found"
    for kind in ("gateway", "client"):
        assert await refused(agent_id=(await enrolled(desk, kind, a))[0]) == "denied"
    assert await refused(agent_id=(await enrolled(desk, "sftp", b))[0]) == "denied"
    assert await refused(tenant_id=b) == "unreadable"
    assert await refused(connection_id=uuid4()) == "unreadable"
    assert await refused(blob=stored[:-1]) == "unreadable"
    await desk.ask(wire.RemoveAgent(agent_id=platform))
    assert await refused() == "not-found"


@pytest.mark.row("F3")
async def test_an_inbound_credential_is_bound_to_tenant_and_connection(desk: Desk) -> None:
    a, b, connection_id = await desk.tenant(), await desk.tenant(), uuid4()
    key = await desk.ask(wire.IntakeKey(tenant_id=a))
    assert isinstance(key, wire.PublicKey)
    inbound = sealing.seal_to(key.key, CREDENTIAL, sealing.context("intake", a, connection_id))
    for tenant_id, connection, blob in ((b, connection_id, inbound), (a, uuid4(), inbound), (a, connection_id, b"x")):
        request = wire.AcceptStorageCredential(tenant_id=tenant_id, connection_id=connection, sealed=blob)
        assert await desk.refused(request) == "malformed"


@pytest.mark.parametrize(
    "plaintext",
    [
        b"",
        b"null",
        b'{"access_key_id": "a"}',
        b'{"access_key_id": "", "secret_access_key": "b"}',
        b'{"access_key_id": "a", "secret_access_key": "b", "more": 1}',
        b'{"access_key_id": 1, "secret_access_key": "b"}',
    ],
)
async def test_something_that_is_no_credential_is_refused(desk: Desk, plaintext: bytes) -> None:
    tenant_id = await desk.tenant()
    key = await desk.ask(wire.IntakeKey(tenant_id=tenant_id))
    assert isinstance(key, wire.PublicKey)
    inbound = sealing.seal_to(key.key, plaintext, sealing.context("intake", tenant_id, ROW))
    request = wire.AcceptStorageCredential(tenant_id=tenant_id, connection_id=ROW, sealed=inbound)
    assert await desk.refused(request) == "malformed"


@pytest.mark.row("T4")
async def test_rotated_keys_still_open_what_they_sealed(desk: Desk) -> None:
    tenant_id = await desk.tenant()
    cell = Cell(tenant_id, "people", "email", ROW)
    first = await leased(desk, tenant_id)
    field = AeadKey(first.key_id, first.key).seal(cell, b"old")
    secret = await sealed(desk, tenant_id, b"old secret")
    stored = await stored_credential(desk, tenant_id, ROW)
    for purpose in (Purpose.FIELDS, Purpose.VAULT, Purpose.STORAGE):
        assert await desk.ask(wire.RotateDataKey(tenant_id=tenant_id, purpose=purpose)) == wire.Done()
    second = await leased(desk, tenant_id)
    assert second.key_id != first.key_id
    (former,) = second.former
    assert AeadKey(former.key_id, former.key).open(cell, field) == b"old"
    assert await desk.ask(open_(tenant_id, secret)) == wire.Plaintext(plaintext=b"old secret")
    agent_id, private = await enrolled(desk, "sftp", tenant_id)
    reply = await desk.ask(
        wire.ResealStorageCredential(
            tenant_id=tenant_id, connection_id=ROW, grant_id=ROW, agent_id=agent_id, blob=stored
        )
    )
    assert isinstance(reply, wire.Blob)
    assert sealing.open_sealed(private, reply.blob, sealing.context("storage", tenant_id, ROW, ROW)) == CREDENTIAL


@pytest.mark.parametrize("purpose", [Purpose.LOOKUP, Purpose.SESSIONS])
async def test_keys_of_tags_are_not_rotated(desk: Desk, purpose: Purpose) -> None:
    tenant_id = await desk.tenant()
    assert await desk.refused(wire.RotateDataKey(tenant_id=tenant_id, purpose=purpose)) == "denied"


async def test_signatures_are_bound_to_their_purpose(desk: Desk) -> None:
    keys: dict[SigningPurpose, bytes] = {}
    for purpose in SigningPurpose:
        reply = await desk.ask(wire.SigningKey(purpose=purpose))
        assert isinstance(reply, wire.PublicKey)
        keys[purpose] = reply.key
    assert len(set(keys.values())) == len(SigningPurpose)
    signed = await desk.ask(wire.Sign(purpose=SigningPurpose.RECEIPT, data=b"data"))
    assert isinstance(signed, wire.Signature)
    signatures.verify(keys[SigningPurpose.RECEIPT], "receipt", b"data", signed.signature)


async def test_a_restart_keeps_everything(open_desk: Opener) -> None:
    desk = await open_desk()
    tenant_id = await desk.tenant()
    key, blob = await leased(desk, tenant_id), await sealed(desk, tenant_id)
    roots = await desk.ask(wire.AuthorityCertificates())
    signing = await desk.ask(wire.SigningKey(purpose=SigningPurpose.AUDIT_CHECKPOINT))
    agent_id, _ = await enrolled(desk, "gateway", tenant_id)
    desk = await open_desk()
    assert await leased(desk, tenant_id) == key
    assert await desk.ask(open_(tenant_id, blob)) == wire.Plaintext(plaintext=b"value")
    assert await desk.ask(wire.AuthorityCertificates()) == roots
    assert await desk.ask(wire.SigningKey(purpose=SigningPurpose.AUDIT_CHECKPOINT)) == signing
    assert isinstance(await desk.ask(wire.RenewAgent(agent_id=agent_id)), wire.Certificate)


async def test_every_call_is_on_record_and_none_tells_a_secret(desk: Desk) -> None:
    tenant_id = await desk.tenant()
    blob = await sealed(desk, tenant_id, b"hunter2-plaintext")
    await desk.ask(open_(tenant_id, blob))
    key = await leased(desk, tenant_id)
    await stored_credential(desk, tenant_id, ROW)
    await desk.ask(open_(uuid4(), blob))
    await desk.ask(wire.Health())
    calls = desk.calls()
    assert [(call["call"], call["outcome"]) for call in calls] == [
        ("create-tenant", "ok"),
        ("seal-value", "ok"),
        ("open-value", "ok"),
        ("lease-data-key", "ok"),
        ("intake-key", "ok"),
        ("accept-storage-credential", "ok"),
        ("open-value", "not-found"),
    ]
    assert calls[2].items() >= {"uid": 1000, "pid": 4711, "tenant_id": str(tenant_id), "row_id": str(ROW)}.items()
    text = json.dumps(calls)
    for secret in (
        "hunter2",
        "AKIATEST",
        "wJalrXUtnFEMI",
        key.key.hex(),
        str(msgspec.to_builtins(key.key)),
        blob.hex(),
    ):
        assert secret not in text


async def test_without_a_call_log_nothing_is_answered(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    tenant_id = await desk.tenant()
    blob = await sealed(desk, tenant_id)

    def full(descriptor: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    assert await desk.refused(open_(tenant_id, blob)) == "unavailable"
    assert await desk.ask(wire.Health()) == wire.Done()


@pytest.mark.row("T3")
async def test_no_key_stands_in_the_keystore_in_clear(desk: Desk, tmp_path: Path) -> None:
    tenant_id = await desk.tenant()
    materials = [(await leased(desk, tenant_id, p)).key for p in LEASABLE]
    record = (tmp_path / "keystore/tenants" / f"{tenant_id}.json").read_text()
    for material in materials:
        assert material.hex() not in record
        assert str(msgspec.to_builtins(material)) not in record
    for path in (tmp_path / "keystore").rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path
