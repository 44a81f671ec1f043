"""Small stand-alone programs for inside namespaces: bulk TCP, and single first bytes. Standard library only.

``serve ADDRESS PORT``: send or swallow without end, as the first line of a connection says (``down``, ``up``), or
answer one byte (``one``). ``pull ADDRESS PORT SECONDS`` and ``push ...``: measure one direction.
``first ADDRESS PORT``: time from the first packet to the first byte. All print JSON.
"""

import json
import socket
import sys
import threading
import time

_BLOCK = 1 << 18
WARM_SECONDS = 1.0


def serve(address: str, port: int) -> None:
    """Serve until killed."""
    listener = socket.create_server((address, port), backlog=128)
    print(json.dumps({"ready": True}), flush=True)
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=_answer, args=(connection,), daemon=True).start()


def _answer(connection: socket.socket) -> None:
    block, room = bytes(_BLOCK), bytearray(_BLOCK)
    try:
        with connection:
            wanted = connection.recv(16)
            if wanted == b"one\n":
                connection.sendall(b"1")
            elif wanted == b"down\n":
                while True:
                    connection.sendall(block)
            else:
                while connection.recv_into(room):
                    pass
    except OSError:
        return


def pull(address: str, port: int, seconds: float) -> dict[str, float]:
    """Receive for ``seconds`` after a warm-up."""
    room = bytearray(_BLOCK)
    with socket.create_connection((address, port), timeout=15) as connection:
        connection.sendall(b"down\n")
        _for(WARM_SECONDS, lambda: connection.recv_into(room))
        return _for(seconds, lambda: connection.recv_into(room))


def push(address: str, port: int, seconds: float) -> dict[str, float]:
    """Send for ``seconds`` after a warm-up; the socket's buffer is small next to what is sent."""
    block = bytes(_BLOCK)
    with socket.create_connection((address, port), timeout=15) as connection:
        connection.sendall(b"up\n")
        _for(WARM_SECONDS, lambda: connection.send(block))
        return _for(seconds, lambda: connection.send(block))


def first(address: str, port: int) -> dict[str, float]:
    """Connect, ask for one byte, and get it."""
    started = time.perf_counter()
    with socket.create_connection((address, port), timeout=15) as connection:
        connection.sendall(b"one\n")
        if connection.recv(1) != b"1":
            raise OSError("no answer")
    return {"seconds": time.perf_counter() - started}


def _for(seconds: float, move: "object") -> dict[str, float]:
    size, started, cpu = 0, time.perf_counter(), _machine_cpu()
    while (taken := time.perf_counter() - started) < seconds:
        size += move()  # type: ignore[operator]
    return {"bytes": size, "seconds": taken, "machine_cpu": _machine_cpu() - cpu}


def _machine_cpu() -> float:
    """Busy seconds of all processors; jiffies are hundredths."""
    with open("/proc/stat", encoding="ascii") as stat:
        fields = [int(field) for field in stat.readline().split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / 100


def main() -> None:
    """Run one."""
    what, address, port, *rest = sys.argv[1:]
    if what == "serve":
        serve(address, int(port))
    elif what == "first":
        print(json.dumps(first(address, int(port))))
    else:
        measured = {"pull": pull, "push": push}[what](address, int(port), float(rest[0]))
        print(json.dumps(measured))


if __name__ == "__main__":
    main()
