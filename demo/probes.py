"""Small stand-alone programs that the demo runs inside namespaces. Standard library only.

``serve DIRECTORY ADDRESS PORT``: an HTTP server for files. ``fetch URL FILE``: download and print JSON about it.
``watch ADDRESS PORT SECONDS``: read an endless download until it is cut and print when the last byte came, on the
host's clock.
"""

import hashlib
import http.server
import json
import os
import socket
import sys
import time
import urllib.error
import urllib.request
from functools import partial
from pathlib import Path

SILENCE_SECONDS = 4.0
_BLOCK = 1 << 16


class _Files(http.server.SimpleHTTPRequestHandler):
    """Files, and ``/endless``: a download that never ends by itself, paced here so that nothing queues on the way."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""

    def do_GET(self) -> None:
        """Answer one request."""
        if self.path != "/endless":
            super().do_GET()
            return
        self.send_response(200)
        self.end_headers()
        block = os.urandom(1 << 12)
        try:
            while True:
                self.wfile.write(block)
                time.sleep(0.001)
        except OSError:
            return


def serve(directory: str, address: str, port: int) -> None:
    """Serve files until killed."""
    handler = partial(_Files, directory=directory)
    http.server.ThreadingHTTPServer((address, port), handler).serve_forever()


def fetch(url: str, file: str, seconds: float = 30.0) -> dict[str, object]:
    """Download ``url``; what came, how fast, and its hash."""
    digest, size, started = hashlib.sha256(), 0, time.monotonic()
    try:
        with urllib.request.urlopen(url, timeout=seconds) as answer, Path(file).open("wb") as out:
            while block := answer.read(_BLOCK):
                digest.update(block)
                out.write(block)
                size += len(block)
    except (urllib.error.URLError, OSError) as exc:
        return {"ok": False, "error": str(exc), "bytes": size, "seconds": time.monotonic() - started}
    return {"ok": True, "bytes": size, "sha256": digest.hexdigest(), "seconds": time.monotonic() - started}


def watch(address: str, port: int, seconds: float) -> dict[str, object]:
    """Read ``/endless`` until it falls silent or ``seconds`` are over; report when the last byte came."""
    size, last, ended = 0, 0.0, "silence"
    give_up = time.monotonic() + seconds
    with socket.create_connection((address, port), timeout=15) as connection:
        connection.sendall(b"GET /endless HTTP/1.0\r\nHost: demo\r\n\r\n")
        connection.settimeout(SILENCE_SECONDS)
        while True:
            try:
                block = connection.recv(_BLOCK)
            except TimeoutError:
                break
            except OSError as exc:
                ended = str(exc)
                break
            if not block:
                ended = "closed"
                break
            if not size:
                print(json.dumps({"first_byte_at": time.time()}), flush=True)
            last = time.time()
            size += len(block)
            if time.monotonic() > give_up:
                ended = "still running"
                break
    return {"bytes": size, "last_byte_at": last, "ended": ended}


def main() -> None:
    """Run one probe."""
    what, *arguments = sys.argv[1:]
    if what == "serve":
        serve(arguments[0], arguments[1], int(arguments[2]))
    elif what == "fetch":
        print(json.dumps(fetch(arguments[0], arguments[1], float(arguments[2]) if len(arguments) > 2 else 30.0)))
    elif what == "watch":
        print(json.dumps(watch(arguments[0], int(arguments[1]), float(arguments[2]))), flush=True)


if __name__ == "__main__":
    main()
