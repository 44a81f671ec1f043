"""The cross-platform configuration protocol of WireGuard (https://www.wireguard.com/xplatform/).

Text lines over a Unix socket: ``set=1`` or ``get=1``, then ``key=value`` lines, an empty line; the answer ends
with ``errno=N`` and an empty line. Keys are hexadecimal. The pure half encodes and parses, :func:`exchange`
does one round trip.
"""

import asyncio
from collections.abc import Iterator
from pathlib import Path

from limen.edge.wireguard.ports import Peer, PeerStatus, TunnelFailed

SOCKET_DIRECTORY = Path("/var/run/wireguard")
EXCHANGE_SECONDS = 5.0
_MAX_ANSWER_BYTES = 16 << 20


def encode_interface(private_key: bytes, listen_port: int) -> str:
    """A request that configures the interface itself and forgets all peers."""
    return f"set=1\nprivate_key={private_key.hex()}\nlisten_port={listen_port}\nreplace_peers=true\n\n"


def encode_peer(peer: Peer) -> str:
    """A request that adds a peer or makes it equal to ``peer``."""
    lines = ["set=1", f"public_key={peer.public_key.hex()}"]
    if peer.preshared_key is not None:
        lines.append(f"preshared_key={peer.preshared_key.hex()}")
    if peer.endpoint:
        lines.append(f"endpoint={peer.endpoint}")
    lines.append(f"persistent_keepalive_interval={peer.keepalive}")
    lines.append("replace_allowed_ips=true")
    lines.extend(f"allowed_ip={address}" for address in peer.allowed_ips)
    return "\n".join(lines) + "\n\n"


def encode_removal(public_key: bytes) -> str:
    """A request that forgets a peer."""
    return f"set=1\npublic_key={public_key.hex()}\nremove=true\n\n"


def parse_answer(answer: str) -> list[tuple[str, str]]:
    """Split an answer into its pairs, without the final errno.

    Raises:
        TunnelFailed: when the answer is cut short or reports an error.
    """
    pairs: list[tuple[str, str]] = []
    for line in answer.split("\n"):
        key, _, value = line.partition("=")
        if key == "errno":
            if value != "0":
                raise TunnelFailed(f"WireGuard refused its configuration (errno {value.lstrip('-')})")
            return pairs
        if key:
            pairs.append((key, value))
    raise TunnelFailed("WireGuard's answer was cut short")


def parse_peers(pairs: list[tuple[str, str]]) -> Iterator[PeerStatus]:
    """The peers in the pairs of a ``get``."""
    starts = [index for index, (key, _) in enumerate(pairs) if key == "public_key"]
    for start, end in zip(starts, [*starts[1:], len(pairs)], strict=True):
        block = pairs[start:end]
        values = dict(block)
        seconds, nanoseconds = (int(values.get(f"last_handshake_time_{unit}", "0")) for unit in ("sec", "nsec"))
        yield PeerStatus(
            public_key=bytes.fromhex(values["public_key"]),
            endpoint=values.get("endpoint", ""),
            allowed_ips=tuple(value for key, value in block if key == "allowed_ip"),
            last_handshake=seconds + nanoseconds / 1e9,
            received_bytes=int(values.get("rx_bytes", "0")),
            sent_bytes=int(values.get("tx_bytes", "0")),
        )


async def exchange(socket_path: Path, request: str) -> list[tuple[str, str]]:
    """Send one request and return the pairs of the answer.

    Raises:
        TunnelFailed: when the socket does not answer in time, or the answer is an error.
    """
    try:
        async with asyncio.timeout(EXCHANGE_SECONDS):
            reader, writer = await asyncio.open_unix_connection(socket_path, limit=_MAX_ANSWER_BYTES)
            try:
                writer.write(request.encode("ascii"))
                await writer.drain()
                answer = await reader.readuntil(b"\n\n")
            finally:
                writer.close()
    except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as exc:
        raise TunnelFailed(f"WireGuard does not answer on {socket_path.name}: {type(exc).__name__}") from exc
    return parse_answer(answer.decode("ascii", "replace"))
