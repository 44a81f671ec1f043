"""Certificates and enrolment."""

from datetime import datetime, timedelta
from uuid import UUID, uuid4

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError, VerifiedClient
from hypothesis import given
from hypothesis import strategies as st

from limen.crypto import sealing
from limen.kernel.errors import Malformed
from limen.keyd.authority import _general_name
from limen.wire import keyd as wire
from tests.unit.keyd.conftest import Desk, identity_key

SEALING_KEY = sealing.generate_keypair()[1]


def enrol(tenant_id: UUID | None, kind: str = "gateway", **changes: object) -> wire.EnrolAgent:
    fields: dict[str, object] = {
        "agent_id": uuid4(),
        "tenant_id": tenant_id,
        "kind": kind,
        "identity_key": identity_key(),
        "sealing_key": SEALING_KEY,
    }
    return wire.EnrolAgent(**(fields | changes))  # type: ignore[arg-type]


async def certificate(desk: Desk, request: wire.Request) -> list[x509.Certificate]:
    reply = await desk.ask(request)
    assert isinstance(reply, wire.Certificate), reply
    chain = x509.load_pem_x509_certificates(reply.pem)
    assert chain[0].not_valid_after_utc.timestamp() == reply.not_after
    return chain


async def store(desk: Desk, which: str) -> Store:
    roots = await desk.ask(wire.AuthorityCertificates())
    assert isinstance(roots, wire.Authorities)
    return Store(x509.load_pem_x509_certificates(getattr(roots, which)))


def verify(leaf: x509.Certificate, roots: Store, at: datetime) -> VerifiedClient:
    return PolicyBuilder().store(roots).time(at).build_client_verifier().verify(leaf, [])


@pytest.mark.parametrize("kind", ["gateway", "client", "sftp"])
async def test_an_agent_gets_a_day_in_its_own_name(desk: Desk, kind: str) -> None:
    tenant_id, now = uuid4(), desk.clock.now()
    request = enrol(tenant_id, kind)
    leaf, _ = await certificate(desk, request)
    verified = verify(leaf, await store(desk, "agent_ca_pem"), now)
    uri = f"limen://{tenant_id}/{kind}/{request.agent_id}"
    assert verified.subjects == [x509.UniformResourceIdentifier(uri)]
    assert leaf.not_valid_after_utc == now + timedelta(hours=24)
    key = leaf.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    assert key == request.identity_key
    usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [x509.ExtendedKeyUsageOID.CLIENT_AUTH]


async def test_a_platform_agent_is_named_so(desk: Desk) -> None:
    request = enrol(None, "sftp")
    leaf, _ = await certificate(desk, request)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [f"limen://platform/sftp/{request.agent_id}"]


@pytest.mark.parametrize(("hours", "accepted"), [(-1, True), (1, True), (-3, False), (25, False)])
async def test_a_clock_an_hour_off_still_accepts_the_certificate(desk: Desk, hours: int, accepted: bool) -> None:
    leaf, _ = await certificate(desk, enrol(uuid4()))
    roots, at = await store(desk, "agent_ca_pem"), desk.clock.now() + timedelta(hours=hours)
    if accepted:
        verify(leaf, roots, at)
    else:
        with pytest.raises(VerificationError):
            verify(leaf, roots, at)


async def test_the_two_authorities_do_not_stand_in_for_each_other(desk: Desk) -> None:
    leaf, _ = await certificate(desk, enrol(uuid4()))
    with pytest.raises(VerificationError):
        verify(leaf, await store(desk, "server_ca_pem"), desk.clock.now())


async def test_renewal_certifies_the_key_on_record(desk: Desk) -> None:
    request = enrol(uuid4())
    first, _ = await certificate(desk, request)
    desk.clock.instant += timedelta(hours=20)
    second, _ = await certificate(desk, wire.RenewAgent(agent_id=request.agent_id))
    assert second.public_key() == first.public_key()
    assert second.serial_number != first.serial_number
    assert second.not_valid_after_utc == desk.clock.now() + timedelta(hours=24)


async def test_enrolling_again_with_the_same_key_is_harmless(desk: Desk) -> None:
    request = enrol(uuid4())
    await certificate(desk, request)
    await certificate(desk, request)


@pytest.mark.parametrize(
    "changes",
    [
        {"identity_key": identity_key()},
        {"sealing_key": sealing.generate_keypair()[1]},
        {"kind": "client"},
        {"tenant_id": uuid4()},
    ],
)
async def test_an_agent_id_never_changes_its_particulars(desk: Desk, changes: dict[str, object]) -> None:
    tenant_id = uuid4()
    request = enrol(tenant_id)
    before, _ = await certificate(desk, request)
    particulars: dict[str, object] = {
        "agent_id": request.agent_id,
        "identity_key": request.identity_key,
        "sealing_key": request.sealing_key,
    }
    altered = enrol(**({"tenant_id": tenant_id} | particulars | changes))  # type: ignore[arg-type]
    assert await desk.refused(altered) == "conflict"
    after, _ = await certificate(desk, wire.RenewAgent(agent_id=request.agent_id))
    assert after.public_key() == before.public_key()


async def test_a_removed_agent_stays_removed(desk: Desk) -> None:
    request = enrol(uuid4())
    await certificate(desk, request)
    for _ in range(2):
        assert await desk.ask(wire.RemoveAgent(agent_id=request.agent_id)) == wire.Done()
    assert await desk.refused(wire.RenewAgent(agent_id=request.agent_id)) == "not-found"
    assert await desk.refused(request) == "conflict"


def _der(key: object) -> bytes:
    return key.public_bytes(  # type: ignore[attr-defined, no-any-return]
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"kind": "relay"}, "malformed"),
        ({"tenant_id": None}, "malformed"),
        ({"identity_key": b""}, "bad-key"),
        ({"identity_key": b"\x30\x03\x01\x01\x00"}, "bad-key"),
        ({"identity_key": _der(ec.generate_private_key(ec.SECP384R1()).public_key())}, "bad-key"),
        ({"identity_key": _der(ed25519.Ed25519PrivateKey.generate().public_key())}, "bad-key"),
        ({"sealing_key": b"short"}, "bad-key"),
        ({"sealing_key": bytes(32)}, "bad-key"),
    ],
)
async def test_a_bad_enrolment_leaves_nothing_behind(desk: Desk, changes: dict[str, object], code: str) -> None:
    request = enrol(**({"tenant_id": uuid4()} | changes))  # type: ignore[arg-type]
    assert await desk.refused(request) == code
    assert await desk.refused(wire.RenewAgent(agent_id=request.agent_id)) == "not-found"


async def test_a_server_certificate_covers_its_names(desk: Desk) -> None:
    names = ("limen.example.org", "*.limen.example.org", "192.0.2.1", "2001:db8::1", "LOCALHOST")
    reply = await desk.ask(wire.IssueServerCertificate(names=names, identity_key=identity_key()))
    assert isinstance(reply, wire.Certificate)
    leaf, _ = x509.load_pem_x509_certificates(reply.pem)
    roots, now = await store(desk, "server_ca_pem"), desk.clock.now()
    subjects = [x509.DNSName(n) for n in ("limen.example.org", "a.limen.example.org", "localhost")]
    for subject in subjects:
        PolicyBuilder().store(roots).time(now).build_server_verifier(subject).verify(leaf, [])
    alternative = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(ip) for ip in alternative.get_values_for_type(x509.IPAddress)] == ["192.0.2.1", "2001:db8::1"]
    with pytest.raises(VerificationError):
        PolicyBuilder().store(roots).time(now).build_server_verifier(x509.DNSName("evil.org")).verify(leaf, [])


@pytest.mark.parametrize(
    "names",
    [
        (),
        ("",),
        ("*",),
        ("a b",),
        ("-a.org",),
        ("a..org",),
        ("*.*.org",),
        ("x" * 64,),
        ("a\nb",),
        ("http://a",),
        ("a",) * 65,
    ],
)
async def test_a_bad_server_name_is_refused(desk: Desk, names: tuple[str, ...]) -> None:
    request = wire.IssueServerCertificate(names=names, identity_key=identity_key())
    assert await desk.refused(request) == "malformed"


@given(st.text(max_size=80))
def test_any_name_is_either_encoded_or_refused(name: str) -> None:
    try:
        general = _general_name(name)
    except Malformed:
        return
    assert isinstance(general, x509.DNSName | x509.IPAddress)
    if isinstance(general, x509.DNSName):
        assert general.value.isascii()
