"""A vault over a real database and a real policy administrator, served over TLS on request."""

import asyncio
import os
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from uuid import UUID

import httpx
import uvicorn
from cryptography import x509
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.x509.oid import NameOID
from starlette.applications import Starlette
from starlette.routing import Mount

from limen.control.resources.model import Resource
from limen.control.vault.dialect import vault_app
from limen.control.vault.model import IssuedToken
from limen.control.vault.ports import ValueCustody
from limen.control.vault.rules.rate import Rate
from limen.control.vault.service import compose_vault
from limen.control.vault.service.tokens import TokenWish
from limen.db.database import Database, Row
from limen.db.ports import FieldCipher
from limen.kernel.access import ResourceKind
from limen.kernel.errors import Denied, Unavailable
from limen.kernel.ids import new_id
from limen.kernel.principal import SYSTEM, Actor, ActorKind
from limen.wire.keyd import Purpose
from tests.support.policy import PolicyWorld

ALL_ACTIONS = ("read", "write", "list", "delete")


@dataclass
class ProcessCustody:
    """``ValueCustody`` in this process: AES-256-GCM, one random key per tenant, bound to the place of the value."""

    keys: dict[UUID, bytes] = field(default_factory=dict)
    sealed: bool = False

    async def seal_value(
        self,
        tenant_id: UUID,
        purpose: Purpose,
        *,
        table: str,
        column: str,
        row_id: UUID,
        revision: int,
        plaintext: bytes,
    ) -> bytes:
        await self.health()
        nonce = os.urandom(12)
        key = self.keys.setdefault(tenant_id, AESGCM.generate_key(256))
        return nonce + AESGCM(key).encrypt(nonce, plaintext, _place(purpose, table, column, row_id, revision))

    async def open_value(
        self, tenant_id: UUID, purpose: Purpose, *, table: str, column: str, row_id: UUID, revision: int, blob: bytes
    ) -> bytes:
        await self.health()
        try:
            key = AESGCM(self.keys[tenant_id])
            return key.decrypt(blob[:12], blob[12:], _place(purpose, table, column, row_id, revision))
        except (InvalidTag, KeyError):
            raise Denied("this value was not sealed for this place") from None

    async def health(self) -> None:
        if self.sealed:
            raise Unavailable("key custody is sealed")


def _place(purpose: Purpose, table: str, column: str, row_id: UUID, revision: int) -> bytes:
    return f"{purpose}\0{table}\0{column}\0{row_id}\0{revision}".encode()


class VaultWorld:
    """Tenants with people, mounts, policies and tokens."""

    def __init__(
        self,
        database: Database,
        cipher: FieldCipher,
        rate: Rate | None = None,
        custody: ValueCustody | None = None,
    ) -> None:
        self.database = database
        self.policy = PolicyWorld(database)
        self.clock = self.policy.clock
        self.custody = ProcessCustody()
        self.vault = compose_vault(
            database,
            cipher,
            self.policy.administrator,
            custody or self.custody,
            self.clock,
            rate=rate or Rate(per_second=100_000, burst=100_000),
        )
        self.policy.administrator.add_ender(self.vault.tokens)
        self.app = Starlette(routes=[Mount("/v1", vault_app(self.vault, self.clock))])

    async def person(self, tenant: UUID) -> UUID:
        """An active person in the identity room's table and the policy test's directory."""
        person_id = new_id()
        self.policy.directory.kinds[tenant, person_id] = "person"
        async with self.database.transaction(tenant) as tx:
            await tx.execute(
                "INSERT INTO people (tenant_id, id, email_tag, email_sealed, name_sealed, role, state, created_at)"
                " VALUES (%s, %s, %s, '', '', 'member', 'active', %s)",
                (tenant, person_id, os.urandom(32), self.clock.now()),
            )
        return person_id

    async def mount(self, tenant: UUID, name: str = "secret") -> Resource:
        """A vault mount."""
        return await self.policy.resource(tenant, name, ResourceKind.VAULT)

    async def token(self, tenant: UUID, person: UUID, wish: TokenWish | None = None) -> IssuedToken:
        """A token of a person."""
        actor = Actor(ActorKind.PERSON, person, "192.0.2.7")
        return await self.vault.tokens.issue_to_person(tenant, person, actor, wish or TokenWish())

    async def allowed(self, tenant: UUID, mount: Resource, *actions: str) -> IssuedToken:
        """A new person's token with a policy for ``actions`` (default: all) on ``mount``."""
        person = await self.person(tenant)
        await self.policy.policy(tenant, f"p-{person}", person, mount.id, *(actions or ALL_ACTIONS))
        return await self.token(tenant, person)

    def client(self, token: str = "") -> httpx.AsyncClient:
        """An HTTP client of the application in this process."""
        headers = {"X-Vault-Token": token} if token else {}
        return httpx.AsyncClient(
            transport=httpx.ASGITransport(app=self.app), base_url="http://vault/v1", headers=headers
        )

    async def audit(self, tenant: UUID, prefix: str = "vault.") -> list[Row]:
        """Audit leaves, oldest first."""
        return await self.database.query(
            tenant,
            "SELECT l.action, l.outcome, l.actor_kind, l.actor_id, l.object_id, v.detail FROM audit_leaves l"
            " JOIN audit_values v USING (tenant_id, at, id) WHERE l.tenant_id = %s AND l.action ^@ %s ORDER BY l.id",
            (tenant, prefix),
        )

    async def suspend(self, tenant: UUID, subject: UUID) -> None:
        """Suspend a subject through the policy administrator."""
        await self.policy.administrator.suspend_person(SYSTEM, tenant, subject, "test")


@dataclass(frozen=True)
class Served:
    """A server on this machine."""

    url: str
    ca_file: Path


@asynccontextmanager
async def served(app: Starlette, directory: Path) -> AsyncIterator[Served]:
    """Serve ``app`` over TLS 1.3 with uvicorn and h11 on a free port."""
    cert, key = _certificate(directory)
    config = uvicorn.Config(
        app, host="127.0.0.1", port=0, http="h11", ws="none", lifespan="off", log_config=None, ssl_certfile=cert,
        ssl_keyfile=key,
    )  # fmt: skip
    config.load()
    assert config.ssl is not None
    config.ssl.minimum_version = ssl.TLSVersion.TLSv1_3
    server = uvicorn.Server(config)
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    task = asyncio.create_task(server.serve())
    try:
        while not server.started:
            if task.done():
                await task
            await asyncio.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield Served(f"https://127.0.0.1:{port}", cert)
    finally:
        server.should_exit = True
        await task


def _certificate(directory: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "limen test")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    cert_file, key_file = directory / "cert.pem", directory / "key.pem"
    cert_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return cert_file, key_file
