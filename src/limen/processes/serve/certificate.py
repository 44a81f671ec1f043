"""The server's own certificate: yours if you give one, else one of the internal authority, renewed by itself."""

import asyncio
import os
import ssl
import time
from pathlib import Path

import structlog
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from limen.control.custody.service import KeydClient
from limen.kernel.errors import LimenError
from limen.processes.serve.settings import ServeSettings
from limen.runtime.tls import agent_server_context, server_context

_RENEW_SHARE = 1 / 3
_RETRY_SECONDS = 60.0
_log = structlog.get_logger(__name__)


class ServerCertificate:
    """Key and chain of this process, loaded into the TLS contexts of both ports.

    The key lives in memory only. A context that has new material loaded serves new connections with it.
    """

    def __init__(self, settings: ServeSettings, keyd: KeydClient, agent_ca: bytes) -> None:
        self._settings = settings
        self._keyd = keyd
        self._agent_ca = agent_ca
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

    async def keep_fresh(self) -> None:
        """Renew an issued certificate before two thirds of its life are over, until cancelled."""
        while self._settings.certificate is None:
            left = self._not_after - time.time()
            await asyncio.sleep(max(left * (1 - _RENEW_SHARE), _RETRY_SECONDS))
            try:
                chain, key = await self._material()
            except LimenError as exc:
                _log.warning("the server certificate was not renewed yet", reason=exc.message)
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
        names = dict.fromkeys((*self._settings.names, domain, f"*.{domain}"))
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
