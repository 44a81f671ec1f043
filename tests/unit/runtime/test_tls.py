"""TLS contexts, handshaken in memory between two BIOs: no socket."""

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from limen.kernel.errors import Malformed
from limen.keyd.authority import Authority, AuthorityKind
from limen.keyd.keystore import Keystore
from limen.keyd.local_backend import LocalFileBackend, create_key_file
from limen.keyd.rootkeys import RootKeys
from limen.runtime import tls

NOW = datetime.now(UTC)


class Pki:
    """Two authorities of keyd, a server and an agent."""

    def __init__(self, servers: Authority, agents: Authority) -> None:
        self.servers, self.agents = servers, agents
        self.server_ca, self.agent_ca = servers.certificate_pem(), agents.certificate_pem()
        self.server_key, public = key_pair()
        self.server = servers.issue_server(("limen.test",), public, NOW).pem
        self.agent_key, public = key_pair()
        self.agent = agents.issue_agent(uuid4(), "gateway", uuid4(), public, NOW).pem


def key_pair() -> tuple[bytes, bytes]:
    """Private key in PEM, public key in DER."""
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    public = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return pem, public


@pytest.fixture
async def pki(tmp_path: Path) -> Pki:
    create_key_file(tmp_path / "kek.json")
    keystore = Keystore(tmp_path / "keystore")
    roots = RootKeys(LocalFileBackend.load(tmp_path / "kek.json"))
    authorities = [await Authority.load(kind, keystore, roots, NOW) for kind in AuthorityKind]
    keystore.close()
    return Pki(*authorities)


def handshake(server: ssl.SSLContext, client: ssl.SSLContext, name: str = "limen.test") -> ssl.SSLObject:
    """Shake hands in memory and pass one byte each way; returns the server's side. Raises ssl.SSLError."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    left = server.wrap_bio(to_server, to_client, server_side=True)
    right = client.wrap_bio(to_client, to_server, server_hostname=name)
    open_sides = [right, left]
    while open_sides:
        for side in list(open_sides):
            try:
                side.do_handshake()
                open_sides.remove(side)
            except ssl.SSLWantReadError:
                continue
    right.write(b"?")
    assert left.read(1) == b"?"
    left.write(b"!")
    assert right.read(1) == b"!"
    return left


def test_mutual_tls_names_the_agent(pki: Pki) -> None:
    server = tls.agent_server_context(pki.server, pki.server_key, pki.agent_ca)
    client = tls.agent_client_context(pki.agent, pki.agent_key, pki.server_ca)
    side = handshake(server, client)
    assert side.version() == "TLSv1.3"
    certificate = side.getpeercert()
    assert certificate is not None
    ((kind, uri),) = certificate["subjectAltName"]
    assert kind == "URI"
    assert uri.startswith("limen://")
    assert side.getpeercert(binary_form=True)


def test_the_agents_door_wants_a_certificate(pki: Pki) -> None:
    server = tls.agent_server_context(pki.server, pki.server_key, pki.agent_ca)
    with pytest.raises(ssl.SSLError):
        handshake(server, tls.client_context(pki.server_ca))


def test_the_agents_door_refuses_other_authorities_and_server_certificates(pki: Pki) -> None:
    server = tls.agent_server_context(pki.server, pki.server_key, pki.agent_ca)
    for certificate, key in ((pki.server, pki.server_key),):
        with pytest.raises(ssl.SSLError):
            handshake(server, tls.agent_client_context(certificate, key, pki.server_ca))
    key_pem, public = key_pair()
    as_server = pki.agents.issue_server(("limen.test",), public, NOW).pem
    with pytest.raises(ssl.SSLError):
        handshake(server, tls.agent_client_context(as_server, key_pem, pki.server_ca))


def test_an_expired_agent_is_refused(pki: Pki) -> None:
    key_pem, public = key_pair()
    old = pki.agents.issue_agent(uuid4(), "client", uuid4(), public, NOW - timedelta(hours=25)).pem
    server = tls.agent_server_context(pki.server, pki.server_key, pki.agent_ca)
    with pytest.raises(ssl.SSLError, match="expired"):
        handshake(server, tls.agent_client_context(old, key_pem, pki.server_ca))


def test_people_need_no_certificate(pki: Pki) -> None:
    side = handshake(tls.server_context(pki.server, pki.server_key), tls.client_context(pki.server_ca))
    assert side.version() == "TLSv1.3"


def test_a_client_checks_name_and_authority(pki: Pki) -> None:
    server = tls.server_context(pki.server, pki.server_key)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(server, tls.client_context(pki.server_ca), name="evil.test")
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(server, tls.client_context(pki.agent_ca))
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(server, tls.client_context())


def test_nothing_below_tls_1_3(pki: Pki) -> None:
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.load_verify_locations(cadata=pki.server_ca.decode())
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError):
        handshake(tls.server_context(pki.server, pki.server_key), old)


def test_files_work_like_bytes(pki: Pki, tmp_path: Path) -> None:
    certificate, key, authority = tmp_path / "c.pem", tmp_path / "k.pem", tmp_path / "a.pem"
    certificate.write_bytes(pki.server)
    key.write_bytes(pki.server_key)
    authority.write_bytes(pki.server_ca)
    handshake(tls.server_context(certificate, key), tls.client_context(authority))


def test_keys_work_where_proc_is_closed(pki: Pki, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("os.access", lambda *_: False)
    handshake(tls.server_context(pki.server, pki.server_key), tls.client_context(pki.server_ca))
    assert not list(tmp_path.glob("limen-pem-*"))


def test_unusable_files_are_named(pki: Pki, tmp_path: Path) -> None:
    other_key, _ = key_pair()
    locked = serialization.load_pem_private_key(pki.server_key, None).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"pass"),
    )
    missing = tmp_path / "nothing.pem"
    for certificate, key in (
        (pki.server, other_key),
        (pki.server, locked),
        (b"", pki.server_key),
        (b"noise", pki.server_key),
        (missing, pki.server_key),
        (pki.server, missing),
    ):
        with pytest.raises(Malformed) as refusal:
            tls.server_context(certificate, key)
        assert refusal.value.fix
    for authority in (b"", b"noise", b"\xff", missing):
        with pytest.raises(Malformed):
            tls.client_context(authority)
