"""The TLS server on a real socket: TLS 1.3 only, any method, a clear word about a taken port, a graceful stop."""

import asyncio
import contextlib
import datetime
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.types import Receive, Scope, Send

from limen.api.server import HttpServer, PortTaken, bind
from limen.runtime.tls import server_context


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    request = Request(scope, receive)
    if scope["path"] == "/forever":

        async def ticks() -> AsyncIterator[bytes]:
            while True:
                yield b"tick\n"
                await asyncio.sleep(0.01)

        await StreamingResponse(ticks())(scope, receive, send)
        return
    if scope["path"] == "/slow":
        await asyncio.sleep(0.2)
    await PlainTextResponse(f"{scope['scheme']} {request.method}")(scope, receive, send)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A self-signed certificate for 127.0.0.1 and its key."""
    directory = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "limen test")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (directory / "server.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (directory / "server.key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return directory / "server.pem", directory / "server.key"


@pytest.fixture
async def server(certificate: tuple[Path, Path]) -> AsyncIterator[HttpServer]:
    server = HttpServer(app, "127.0.0.1", 0, server_context(*certificate), stop_seconds=1)
    await server.start()
    yield server
    await server.stop()


def client(server: HttpServer, certificate: tuple[Path, Path]) -> httpx.AsyncClient:
    verify = ssl.create_default_context(cafile=str(certificate[0]))
    return httpx.AsyncClient(base_url=f"https://127.0.0.1:{server.port}", verify=verify)


@pytest.mark.row("T5")
async def test_speaks_tls_13(server: HttpServer, certificate: tuple[Path, Path]) -> None:
    async with client(server, certificate) as http:
        assert (await http.get("/")).text == "https GET"
        assert (await http.request("LIST", "/")).text == "https LIST"


@pytest.mark.row("T5")
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1_2])
async def test_refuses_older_tls(server: HttpServer, version: ssl.TLSVersion) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = version
    with pytest.raises((ssl.SSLError, OSError)):
        await asyncio.open_connection("127.0.0.1", server.port, ssl=context)


@pytest.mark.row("T5")
async def test_refuses_plaintext(server: HttpServer) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    answer = b""
    with contextlib.suppress(ConnectionError):
        answer = await reader.read()  # until it closes: an alert, or nothing
    assert b"HTTP" not in answer
    writer.close()


async def test_a_taken_port_is_said_plainly(server: HttpServer) -> None:
    second = HttpServer(app, "127.0.0.1", server.port, None)
    with pytest.raises(PortTaken, match=str(server.port)) as caught:
        await second.start()
    assert caught.value.fix


async def test_answers_do_not_wait_for_acknowledgements() -> None:
    """Accepted connections send small segments at once (TCP_NODELAY)."""
    accepted: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def connected(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.set_result(writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        writer.close()

    async with await asyncio.start_server(connected, sock=bind("127.0.0.1", 0)) as running:
        _, writer = await asyncio.open_connection(*running.sockets[0].getsockname())
        assert await accepted != 0
        writer.close()
        await writer.wait_closed()


async def test_running_requests_end_before_it_stops(certificate: tuple[Path, Path]) -> None:
    server = HttpServer(app, "127.0.0.1", 0, server_context(*certificate), stop_seconds=5)
    await server.start()
    async with client(server, certificate) as http:
        running = asyncio.create_task(http.get("/slow"))
        await asyncio.sleep(0.1)
        await server.stop()
        assert (await running).status_code == 200
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", server.port)) != 0


async def test_an_endless_stream_does_not_hold_it_up(certificate: tuple[Path, Path]) -> None:
    server = HttpServer(app, "127.0.0.1", 0, server_context(*certificate), stop_seconds=1)
    await server.start()
    async with client(server, certificate) as http, http.stream("GET", "/forever") as response:
        stopping = asyncio.create_task(server.stop())
        with pytest.raises(httpx.HTTPError):
            async for _ in response.aiter_raw():
                pass
        async with asyncio.timeout(4):
            await stopping


async def test_an_idle_client_that_never_says_goodbye_does_not_hold_it_up(certificate: tuple[Path, Path]) -> None:
    server = HttpServer(app, "127.0.0.1", 0, server_context(*certificate), stop_seconds=60)
    await server.start()
    trust = ssl.create_default_context(cafile=str(certificate[0]))
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=trust)
    writer.write(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    assert b"200" in await reader.readline()
    writer.transport.pause_reading()  # its end of TLS will not answer the farewell either
    async with asyncio.timeout(20):
        await server.stop()
    writer.transport.abort()
