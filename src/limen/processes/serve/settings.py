"""Settings of ``limen serve``."""

from dataclasses import dataclass
from pathlib import Path

from limen.db.source import ConnectionSource, DsnSource, SocketSource


@dataclass(frozen=True)
class DatabaseSettings:
    """``dsn`` for an external server (``owner_dsn`` for its migrations), or ``socket`` for an embedded one."""

    dsn: str = ""
    owner_dsn: str = ""
    socket: Path | None = None
    pool_size: int = 16

    def __post_init__(self) -> None:
        if bool(self.dsn) == (self.socket is not None):
            raise ValueError("give either database.dsn or database.socket")

    def source(self) -> ConnectionSource:
        """How to connect."""
        if self.socket is not None:
            return SocketSource(self.socket)
        return DsnSource(self.dsn, self.owner_dsn)


@dataclass(frozen=True)
class ServeSettings:
    """``state`` is the process's own directory (TLS key, checkpoints). ``names`` are the DNS names and addresses by
    which people and agents reach this server; the first one goes into enrolment tokens.

    ``certificate`` and ``key`` are PEM files of your own; without them the internal authority issues one.
    ``trust`` is then the PEM file that agents must trust instead of the internal authority. ``user`` is the
    system user to become when started by root.
    """

    state: Path
    keyd_socket: Path
    database: DatabaseSettings
    host: str = "127.0.0.1"
    port: int = 8443
    agent_port: int = 8444
    base_domain: str = "localhost"
    names: tuple[str, ...] = ("localhost", "127.0.0.1", "::1")
    certificate: Path | None = None
    key: Path | None = None
    trust: Path | None = None
    user: str = ""
    migrate: bool = True

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("give both certificate and key, or neither")
        if not self.names:
            raise ValueError("give at least one name by which this server is reached")

    @property
    def url(self) -> str:
        """Where people and agents find the API."""
        return f"https://{bracketed(self.names[0])}:{self.port}"

    @property
    def channel_url(self) -> str:
        """Where agents open their channel."""
        return f"wss://{bracketed(self.names[0])}:{self.agent_port}/agent"


def bracketed(host: str) -> str:
    """A host as a URL wants it: IPv6 addresses in brackets."""
    return f"[{host}]" if ":" in host else host
