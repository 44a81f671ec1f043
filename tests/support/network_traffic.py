"""Real TCP traffic for the lab, as a program: ``serve``, ``fetch`` and ``stream``. Prints JSON lines."""

import contextlib
import hashlib
import json
import socket
import struct
import sys
import threading
import time

from limen.edge.client.packets import checksum

BLOCK = bytes(range(256)) * 256  # 64 KiB
QUIET_SECONDS = 3.0


def serve(*places: str) -> None:
    """Listen on each ``address:port``; send blocks to whoever connects, as many as its first line says."""
    for place in places:
        host, _, port = place.rpartition(":")
        listener = socket.create_server((host, int(port)), backlog=64)
        threading.Thread(target=_accept, args=(listener,), daemon=True).start()
    print(json.dumps({"ready": True}), flush=True)
    sys.stdin.read()


def _accept(listener: socket.socket) -> None:
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=_send, args=(connection,), daemon=True).start()


def _send(connection: socket.socket) -> None:
    with contextlib.suppress(OSError), connection:
        blocks = int(connection.makefile().readline())
        while blocks:
            connection.sendall(BLOCK)
            blocks -= 1


def fetch(place: str, blocks: str, timeout: str = "5") -> None:
    """Read ``blocks`` blocks; report bytes, whether they were right, the time taken, or the error."""
    started = time.time()
    digest, size, error = hashlib.sha256(), 0, ""
    first_byte = 0.0
    try:
        with _connect(place, float(timeout)) as connection:
            connection.sendall(f"{blocks}\n".encode())
            while data := connection.recv(1 << 18):
                first_byte = first_byte or time.time()
                digest.update(data)
                size += len(data)
    except OSError as exc:
        error = type(exc).__name__ if not exc.errno else f"errno {exc.errno}"
    right = digest.digest() == hashlib.sha256(BLOCK * int(blocks)).digest()
    took, first = time.time() - started, first_byte - started if first_byte else None
    print(json.dumps({"bytes": size, "right": right, "error": error, "seconds": took, "first_byte": first}))


def stream(place: str) -> None:
    """Read without end; say when the first byte came, and at the end when the last one did."""
    last, size, error = 0.0, 0, ""
    try:
        with _connect(place, 10.0) as connection:
            connection.sendall(b"-1\n")
            connection.settimeout(QUIET_SECONDS)
            while data := connection.recv(1 << 18):
                if not size:
                    print(json.dumps({"flowing": True}), flush=True)
                last = time.time()
                size += len(data)
    except OSError as exc:
        error = type(exc).__name__
    print(json.dumps({"last": last, "bytes": size, "error": error, "ended": time.time()}), flush=True)


def ping(host: str, timeout: str = "2") -> None:
    """Send one ICMP echo request; whether its reply came."""
    echo = struct.pack(">BBHHH", 8, 0, 0, 77, 1)
    echo = struct.pack(">BBHHH", 8, 0, checksum(echo), 77, 1)
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as raw:
        deadline = time.monotonic() + float(timeout)
        raw.sendto(echo, (host, 0))
        answered = False
        while not answered and (left := deadline - time.monotonic()) > 0:
            raw.settimeout(left)
            with contextlib.suppress(TimeoutError):
                data, (source, _) = raw.recvfrom(2048)
                answered = source == host and data[20] == 0
    print(json.dumps({"answered": answered}), flush=True)


def _connect(place: str, timeout: float) -> socket.socket:
    host, _, port = place.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=timeout)


if __name__ == "__main__":
    {"serve": serve, "fetch": fetch, "stream": stream, "ping": ping}[sys.argv[1]](*sys.argv[2:])
