"""Servers that are not what they should be: each has its own sentence."""

import ipaddress
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from limen.runtime.tls import server_context
from tests.integration.cli.installation import Terminal

Serve = Callable[[bytes], str]
DAY = timedelta(days=1)


class Authority:
    """A certificate authority of a test."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test authority")])
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        builder = self._builder(name, self._key.public_key(), datetime.now(UTC) - 30 * DAY, datetime.now(UTC) + DAY)
        builder = builder.issuer_name(name).add_extension(x509.BasicConstraints(True, 0), True)
        self._certificate = builder.add_extension(usage, True).sign(self._key, SHA256())
        self.pem = self._certificate.public_bytes(Encoding.PEM)

    def certify(self, name: x509.GeneralName, *, until: timedelta = DAY) -> tuple[bytes, bytes]:
        """A server's certificate and key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "server")])
        now = datetime.now(UTC)
        builder = self._builder(subject, key.public_key(), now - 30 * DAY, now + until)
        builder = builder.issuer_name(self._certificate.subject)
        builder = builder.add_extension(x509.SubjectAlternativeName([name]), False)
        builder = builder.add_extension(x509.BasicConstraints(False, None), True)
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        certificate = builder.add_extension(identifier, False).sign(self._key, SHA256())
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return certificate.public_bytes(Encoding.PEM), private

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, begin: datetime, end: datetime
    ) -> x509.CertificateBuilder:
        builder = x509.CertificateBuilder().subject_name(subject).public_key(key)
        builder = builder.serial_number(x509.random_serial_number()).not_valid_before(begin).not_valid_after(end)
        return builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key), False)


AUTHORITY = Authority()
HERE = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))


class Server:
    """Answers every connection on loopback with the same bytes, over TLS when there is a context."""

    def __init__(self, answer: bytes, context: ssl.SSLContext | None) -> None:
        self._answer, self._context = answer, context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.requests: list[bytes] = []
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                plain, _ = self._listener.accept()
            except OSError:
                return
            with plain:
                try:
                    plain.settimeout(20)
                    with self._context.wrap_socket(plain, server_side=True) if self._context else plain as spoken:
                        self.requests.append(spoken.recv(65536))
                        spoken.sendall(self._answer)
                except OSError:
                    pass  # the client does not want us, as it should

    def stop(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(30)


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    running: list[Server] = []

    def start(answer: bytes, context: ssl.SSLContext | None = None) -> Server:
        running.append(Server(answer, context))
        return running[-1]

    yield start
    for server in running:
        server.stop()


@pytest.fixture
def person(tmp_path: Path) -> Terminal:
    (tmp_path / "ca.pem").write_bytes(AUTHORITY.pem)
    return Terminal(tmp_path, {"LIMEN_TOKEN": "secret-token", "LIMEN_CA": str(tmp_path / "ca.pem")})


def at(person: Terminal, port: int) -> Terminal:
    return Terminal(person.home, {**person.variables, "LIMEN_SERVER": f"https://127.0.0.1:{port}"})


def good_context() -> ssl.SSLContext:
    return server_context(*AUTHORITY.certify(HERE))


def http(body: bytes, *, status: str = "200 OK", more: str = "", length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    return f"HTTP/1.1 {status}\r\nContent-Length: {size}\r\nConnection: close\r\n{more}\r\n".encode() + body


def test_nothing_listens(person: Terminal) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    said = at(person, port).refused("whoami")
    assert f"nothing answers at https://127.0.0.1:{port} (is Limen running?" in said


def test_a_name_that_is_nobodys(person: Terminal) -> None:
    elsewhere = Terminal(person.home, {**person.variables, "LIMEN_SERVER": "https://nobody.invalid"})
    assert "the name in https://nobody.invalid cannot be resolved" in elsewhere.refused("whoami")


def test_no_tls(person: Terminal, serve: Callable[..., Server]) -> None:
    server = serve(http(b"hello"))
    assert "does not speak TLS 1.3" in at(person, server.port).refused("whoami")
    assert b"secret-token" not in b"".join(server.requests)


def test_old_tls(person: Terminal, serve: Callable[..., Server]) -> None:
    context = good_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    assert "does not speak TLS 1.3" in at(person, serve(b"", context).port).refused("whoami")


@pytest.mark.parametrize(
    ("context", "said"),
    [
        (lambda: server_context(*Authority().certify(HERE)), "from an authority that is not trusted here"),
        (lambda: server_context(*AUTHORITY.certify(x509.DNSName("other.example"))), "is for another name"),
        (lambda: server_context(*AUTHORITY.certify(HERE, until=-DAY)), "is not valid at this time (check the clocks"),
    ],
)
def test_certificates_that_do_not_fit(
    person: Terminal, serve: Callable[..., Server], context: Callable[[], ssl.SSLContext], said: str
) -> None:
    server = serve(http(b"{}"), context())
    assert said in at(person, server.port).refused("whoami")
    assert b"secret-token" not in b"".join(server.requests)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (http(b"<html>"), "is not Limen (check the address"),
        (http(b"<html>", status="404 Not Found"), "is not Limen"),
        (http(b"[1]", status="500 Internal Server Error"), "is not Limen"),
        (http(b"", status="302 Found", more="Location: https://evil.example/\r\n"), "is not Limen"),
        (http(b"[" * 100_000), "is not Limen"),
        (http(b"\xff\xfe{}"), "is not Limen"),
        (http(b'{"detail": "a", "fix": "b"', length=500), "broke off (try again"),
        (b"", "broke off"),
        (b"nonsense\r\n\r\n", "broke off"),
        (http(b"{}"), "something unexpected went wrong (KeyError) (is the server of the same release?"),
        (
            http(json.dumps({"detail": "no\x1b[2J\nway", "fix": "stop"}).encode(), status="409 Conflict"),
            "limen: no?[2J way (stop)\n",
        ),
        (
            http(b'{"detail": "it broke", "id": "0190"}', status="500 Internal Server Error"),
            "it broke (look at the log of limen serve; id 0190)",
        ),
        (http(b'{"detail": "slow down", "fix": "wait"}', status="429 Too Many Requests"), "limen: slow down (wait)"),
        (
            http(b'{"detail": "over", "fix": "sign in (limen login)"}', status="401 Unauthorized"),
            "over (sign in again: limen",
        ),
    ],
)
def test_answers_that_are_none(person: Terminal, serve: Callable[..., Server], answer: bytes, said: str) -> None:
    assert said in at(person, serve(answer, good_context()).port).refused("whoami")


@pytest.mark.parametrize(
    "body",
    [
        b'{"type": "header"}\n{"type": "record"}\n',
        b'{"type": "header"}\n{"type": "re',
        b"",
        b"[" * 5000,
        b'{"type": "end"}\n{"type": "record"}\n',
    ],
)
def test_an_export_that_breaks_off_leaves_no_file(person: Terminal, serve: Callable[..., Server], body: bytes) -> None:
    kept = person.home / "trail.jsonl"
    kept.write_text("the one from before")
    here = at(person, serve(http(body), good_context()).port)
    assert "the export broke off (try again" in here.refused("audit", "export", kept)
    assert "broke off" in at(person, serve(http(body, length=9999), good_context()).port).refused(
        "audit", "export", kept
    )
    assert kept.read_text() == "the one from before"
    assert sorted(path.name for path in person.home.iterdir()) == ["ca.pem", "trail.jsonl"]


def test_a_whole_export_is_kept(person: Terminal, serve: Callable[..., Server]) -> None:
    body = b'{"type": "header"}\n' + b'{"type": "record"}\n' * 5000 + b'{"type": "end", "records": 5000, "seals": 1}\n'
    at(person, serve(http(body), good_context()).port).ok("audit", "export", person.home / "trail.jsonl")
    assert (person.home / "trail.jsonl").read_bytes() == body


def test_the_tokens_header_and_nothing_else_goes_out(person: Terminal, serve: Callable[..., Server]) -> None:
    server = serve(http(b'{"people": []}'), good_context())
    assert at(person, server.port).ok("person", "list") == "Nobody matches"
    assert b"authorization: Bearer secret-token\r\n" in server.requests[0].replace(b"Authorization", b"authorization")


def test_an_authority_that_is_none(person: Terminal, serve: Callable[..., Server]) -> None:
    (person.home / "ca.pem").write_text("hello")
    assert "holds no PEM certificate (give the server's ca.pem)" in at(person, 1).refused("whoami")
    server = serve(http(b"hello"), good_context())
    words = (
        "login",
        "--server",
        f"https://127.0.0.1:{server.port}",
        "--tenant",
        "x",
        "--email",
        "e",
        "--password-stdin",
    )
    bare = Terminal(person.home)
    assert "is not Limen" in bare.refused(*words, "--fingerprint", "00" * 32, given="p")
    offered = serve(http(AUTHORITY.pem), good_context())
    words = (
        "login",
        "--server",
        f"https://127.0.0.1:{offered.port}",
        "--tenant",
        "x",
        "--email",
        "e",
        "--password-stdin",
    )
    assert "another fingerprint" in bare.refused(*words, "--fingerprint", "00" * 32, given="p")
    assert not any(b"POST" in request for request in server.requests + offered.requests)
