"""The server's own certificate: yours if you give one, else one of the internal authority, renewed by itself."""

import asyncio
import contextlib
import os
import ssl
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from uuid import UUID

import structlog
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from limen.control.custody.service import KeydClient
from limen.kernel.errors import LimenError
from limen.kernel.facts import Change
from limen.processes.serve.settings import ServeSettings
from limen.runtime.tls import agent_server_context, server_context

_RENEW_SHARE = 1 / 3
_RETRY_SECONDS = 60.0
_log = structlog.get_logger(__name__)


class ServerCertificate:
    """Key and chain of this process, loaded into the TLS contexts of both ports.

    The key lives in memory only. A context that has new material loaded serves new connections with it.

    Under a base domain of one label (``localhost``) TLS libraries refuse a wildcard, so that each tenant's name is in
    the certificate, which is issued anew when a tenant is born. ``tenants`` gives their host labels by id.
    """

    def __init__(
        self,
        settings: ServeSettings,
        keyd: KeydClient,
        agent_ca: bytes,
        tenants: Callable[[], Awaitable[dict[UUID, str]]],
    ) -> None:
        self._settings = settings
        self._keyd = keyd
        self._agent_ca = agent_ca
        self._list_tenants = tenants
        self._tenants: set[UUID] = set()
        self._outdated = asyncio.Event()
        self._contexts: list[ssl.SSLContext] = []
        self._not_after = 0.0

    async def contexts(self) -> tuple[ssl.SSLContext, ssl.SSLContext]:
        """The contexts of the public port and of the agents' port.

        Raises:
            Malformed: when your certificate or key cannot be used.
            Unavailable: when keyd does not answer.
        """
        chain, key = await self._material()
        public = server_context(chain, key)
        agents = agent_server_context(chain, key, self._agent_ca)
        self._contexts = [public, agents]
        return public, agents

    def heard(self, change: Change) -> None:
        """Callback of the change feed: a tenant that is first heard of may need its name in the certificate."""
        if "." not in self._settings.base_domain and change.tenant_id not in self._tenants:
            self._tenants.add(change.tenant_id)
            self._outdated.set()

    async def keep_fresh(self) -> None:
        """Renew an issued certificate before two thirds of its life are over, and when it is outdated, until
        cancelled."""
        while self._settings.certificate is None:
            left = self._not_after - time.time()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(left * (1 - _RENEW_SHARE), _RETRY_SECONDS)):
                    await self._outdated.wait()
            self._outdated.clear()
            try:
                chain, key = await self._material()
            except LimenError as exc:
                _log.warning("the server certificate was not renewed yet", reason=exc.message)
                await asyncio.sleep(_RETRY_SECONDS)
                self._outdated.set()
                continue
            for context in self._contexts:
                _reload(context, chain, key)
            _log.info("server certificate renewed")

    async def _material(self) -> tuple[bytes | Path, bytes | Path]:
        if self._settings.certificate is not None and self._settings.key is not None:
            return self._settings.certificate, self._settings.key
        private = ec.generate_private_key(ec.SECP256R1())
        public = private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        domain = self._settings.base_domain
        tenants = await self._list_tenants()
        self._tenants |= set(tenants)
        labels = [f"*.{domain}"] if "." in domain else [f"{slug}.{domain}" for slug in tenants.values()]
        names = dict.fromkeys((*self._settings.names, domain, *labels))
        issued = await self._keyd.issue_server_certificate(tuple(names), public)
        self._not_after = issued.not_after
        return issued.pem, private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _reload(context: ssl.SSLContext, chain: bytes | Path, key: bytes | Path) -> None:
    descriptor = os.memfd_create("limen-pem", os.MFD_CLOEXEC)
    try:
        for part in (key, chain):
            os.write(descriptor, part if isinstance(part, bytes) else part.read_bytes())
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)
