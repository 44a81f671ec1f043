"""asyncssh at the rim: handshake, sign-in, and SFTP channels that feed :class:`~limen.edge.sftp.files.FileSession`.

Nothing else is offered: no shell, no command, no forwarding of ports, agents or X11, no pseudo-terminal; ``scp`` of
OpenSSH 9 speaks SFTP. The user name on the wire is ``<user>.<connection>``, split at the last dot. A key that is only
offered is probed; the grant is asked for when its signature has been verified. Clients learn no reason of a refusal.
"""

import asyncio
import contextlib
import os
import socket
import struct
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final

import asyncssh
import structlog

from limen.edge.sftp import protocol as sftp
from limen.edge.sftp.door import Door, Session
from limen.edge.sftp.files import FileSession
from limen.edge.sftp.machine import Account
from limen.kernel.errors import Denied, LimenError, Malformed

log = structlog.get_logger(__name__)

KEX: Final = (
    "mlkem768x25519-sha256",
    "curve25519-sha256",
    "curve25519-sha256@libssh.org",
    "diffie-hellman-group16-sha512",
    "diffie-hellman-group18-sha512",
)
CIPHERS: Final = ("aes256-gcm@openssh.com", "aes128-gcm@openssh.com", "aes256-ctr", "aes192-ctr", "aes128-ctr")
MACS: Final = ("hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com")
SIGNATURES: Final = (
    "ssh-ed25519",
    "sk-ssh-ed25519@openssh.com",
    "ecdsa-sha2-nistp256",
    "sk-ecdsa-sha2-nistp256@openssh.com",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "rsa-sha2-256",
    "rsa-sha2-512",
)
MAX_SIGN_IN_TRIES: Final = 10
"""Password tries and key offers of one connection; agents with many keys offer them all."""
MAX_CHANNELS: Final = 8
MAX_NAME: Final = 255
INBOX_BYTES: Final = 4 << 20
WRITE_HIGH: Final = 2 << 20
LOGIN_SECONDS: Final = 30
KEEPALIVE_SECONDS: Final = 30


def parse_account(username: str) -> Account | None:
    """``<user>.<connection>``, split at the last dot; ``None`` for anything else."""
    user, dot, connection = username.rpartition(".")
    if not dot or not user or not connection or len(username) > MAX_NAME or not username.isprintable():
        return None
    return Account(user, connection)


async def listen(
    door: Door, keys: list[asyncssh.SSHKey], host: str, port: int, *, login_seconds: float = LOGIN_SECONDS
) -> asyncssh.SSHAcceptor:
    """Serve SFTP on ``host``:``port`` (0 picks a port).

    Raises:
        OSError: the address cannot be bound.
    """
    return await asyncssh.listen(
        host,
        port,
        server_factory=lambda: DoorServer(door),
        server_host_keys=_without_sha1(keys),
        server_version="Limen",
        kex_algs=KEX,
        encryption_algs=CIPHERS,
        mac_algs=MACS,
        signature_algs=SIGNATURES,
        compression_algs=None,
        encoding=None,
        login_timeout=login_seconds,
        keepalive_interval=KEEPALIVE_SECONDS,
        kbdint_auth=False,
        host_based_auth=False,
        gss_host=None,
        agent_forwarding=False,
        allow_scp=False,
        allow_pty=False,
        x11_forwarding=False,
        send_server_host_keys=False,
    )


def _without_sha1(keys: list[asyncssh.SSHKey]) -> list[asyncssh.SSHKeyPair]:
    """Host keys that never sign with SHA-1: asyncssh offers ``ssh-rsa`` beside rsa-sha2 (RFC 8332)."""
    pairs = list(asyncssh.load_keypairs(keys))
    for pair in pairs:
        pair.host_key_algorithms = [name for name in pair.host_key_algorithms if name != b"ssh-rsa"]
    return pairs


class DoorServer(asyncssh.SSHServer):
    """One SSH connection."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._connection: Any = None
        self._address = ""
        self._admitted = False
        self._is_session = False
        self._account: Account | None = None
        self._tries = 0
        self._offered = ""
        self._probed: dict[str, bool] = {}
        self._session: Session | None = None
        self._decided = asyncio.Event()
        self._channels = 0

    # --- asyncssh.SSHServer -------------------------------------------------------------------------------------

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        """A client has come."""
        self._connection = conn
        peer = conn.get_extra_info("peername")
        self._address = str(peer[0]) if peer else ""
        self._admitted = self._door.doorman.admit(self._address)
        if not self._admitted:
            conn.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """It has gone, whoever ended it."""
        if self._admitted:
            self._door.doorman.gone(self._address, was_session=self._is_session)
            self._admitted = False
        if self._session is not None:
            self._door.gone(self._session)

    def begin_auth(self, username: str) -> bool:
        """Everybody must sign in; a change of the name starts anew."""
        self._account = parse_account(username)
        self._probed.clear()
        return True

    def password_auth_supported(self) -> bool:
        """Passwords are taken."""
        return True

    def public_key_auth_supported(self) -> bool:
        """Keys are taken."""
        return True

    async def validate_password(self, username: str, password: str) -> bool:
        """Ask the control plane."""
        if not self._may_try() or self._account is None or not password:
            return False
        return await self._sign_in(password=password)

    async def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        """Called for an offer and again with the signature; asyncssh verifies that afterwards."""
        line = key.export_public_key("openssh").decode().strip()
        line = " ".join(line.split()[:2])
        if line not in self._probed:
            if not self._may_try() or self._account is None:
                return False
            self._probed[line] = await self._door.probe_key(self._account, self._address, line)
        self._offered = line
        return self._probed[line]

    async def auth_completed(self) -> None:
        """Signed in. With a key, the proof is made only now: ask for the grant.

        asyncssh has told the client already, so that channels may be opened meanwhile; they wait for the answer.
        """
        if self._session is None and self._offered:
            await self._sign_in(public_key=self._offered)
        self._decided.set()
        if self._session is None:
            self._connection.disconnect(asyncssh.DISC_NO_MORE_AUTH_METHODS_AVAILABLE, "access denied")

    def session_requested(self) -> "SftpChannel | bool":
        """A channel for SFTP."""
        if self._channels >= MAX_CHANNELS:
            return False
        self._channels += 1
        return SftpChannel(self._door, self._await_session, self._channel_closed)

    # --- door.Connection ----------------------------------------------------------------------------------------

    def cut(self, reason: str) -> None:
        """Reset the connection: what the kernel still holds for the client is thrown away too."""
        _discard_unsent(self._connection)
        self._connection.abort()

    # --- inside ---------------------------------------------------------------------------------------------------

    async def _await_session(self) -> Session:
        """The session, once the sign-in is decided.

        Raises:
            Denied: there is none, or it has ended.
        """
        await self._decided.wait()
        if self._session is None or self._session.ended:
            raise Denied("access denied")
        return self._session

    def _channel_closed(self) -> None:
        self._channels -= 1

    def _may_try(self) -> bool:
        self._tries += 1
        if self._tries > MAX_SIGN_IN_TRIES:
            self._connection.abort()
            return False
        return True

    async def _sign_in(self, *, password: str = "", public_key: str = "") -> bool:
        assert self._account is not None
        if self._has_left() or not self._door.doorman.signed_in(self._address):
            return False
        self._is_session = True
        try:
            session = await self._door.sign_in(
                self, self._account, self._address, password=password, public_key=public_key
            )
        except LimenError as exc:
            self._is_session = False
            self._door.doorman.signed_out(self._address)
            log.info("sign-in refused", code=exc.code)
            return False
        self._session = session
        if self._has_left():
            self._door.gone(session)
        return not self._has_left()

    def _has_left(self) -> bool:
        """Whether the client went while we were asking."""
        return not self._admitted


class SftpChannel(asyncssh.SSHServerSession[bytes]):
    """One SFTP channel: bytes to requests, replies to bytes, with back-pressure both ways."""

    def __init__(self, door: Door, signed_in: Callable[[], Awaitable[Session]], closed: Callable[[], None]) -> None:
        self._door = door
        self._signed_in = signed_in
        self._closed = closed
        self._channel: Any = None
        self._reader = sftp.PacketReader()
        self._inbox: deque[bytes] = deque()
        self._inbox_bytes = 0
        self._reading_paused = False
        self._news = asyncio.Event()
        self._may_write = asyncio.Event()
        self._may_write.set()
        self._eof = False
        self._task: asyncio.Task[None] | None = None

    # --- asyncssh.SSHServerSession ------------------------------------------------------------------------------

    def connection_made(self, chan: Any) -> None:
        """The channel is open."""
        self._channel = chan
        chan.set_write_buffer_limits(high=WRITE_HIGH)

    def subsystem_requested(self, subsystem: str) -> bool:
        """SFTP and nothing else."""
        return subsystem == "sftp"

    def session_started(self) -> None:
        """The client may talk."""
        self._task = asyncio.create_task(self._work())

    def data_received(self, data: bytes, datatype: int | None) -> None:
        """Bytes of the client; reading pauses when too much waits."""
        try:
            packets = self._reader.feed(data)
        except Malformed:
            self._give_up()
            return
        self._inbox.extend(packets)
        self._inbox_bytes += sum(map(len, packets))
        if self._inbox_bytes > INBOX_BYTES and not self._reading_paused:
            self._reading_paused = True
            self._channel.pause_reading()
        self._news.set()

    def eof_received(self) -> bool:
        """The client has said all; what it asked before is still answered."""
        self._eof = True
        self._news.set()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """The channel is gone."""
        self._closed()
        if self._task is not None:
            self._task.cancel()

    def pause_writing(self) -> None:
        """The client reads slowly."""
        self._may_write.clear()

    def resume_writing(self) -> None:
        """It has caught up."""
        self._may_write.set()

    # --- inside ---------------------------------------------------------------------------------------------------

    async def _work(self) -> None:
        session: Session | None = None
        files: FileSession | None = None
        try:
            session = await self._signed_in()
            files = await self._door.open_files(session)
            await self._serve(files)
            self._channel.exit(0)
        except Malformed:
            self._give_up()
        except LimenError as exc:
            self._channel.write_stderr(f"limen: {exc.message}\r\n".encode())
            self._channel.exit(1)
        except (OSError, asyncssh.Error):
            pass  # the connection broke between two packets; connection_lost follows
        finally:
            if session is not None and files is not None:
                await asyncio.shield(asyncio.ensure_future(self._door.close_files(session, files)))

    async def _serve(self, files: FileSession) -> None:
        while True:
            while not self._inbox:
                if self._eof:
                    return
                self._news.clear()
                await self._news.wait()
            packet = self._inbox.popleft()
            self._inbox_bytes -= len(packet)
            if self._reading_paused and self._inbox_bytes < INBOX_BYTES // 2:
                self._reading_paused = False
                self._channel.resume_reading()
            reply = await files.handle(sftp.parse(packet))
            await self._may_write.wait()
            self._channel.write(reply)

    def _give_up(self) -> None:
        """What the client sends is not SFTP."""
        self._channel.abort()
        if self._task is not None:
            self._task.cancel()


def _discard_unsent(connection: Any) -> None:
    """With a linger time of zero, closing sends a reset and the kernel drops its send queue."""
    transport_socket = connection.get_extra_info("socket")
    if transport_socket is None:
        return
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(transport_socket.fileno())) as same:
        same.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
