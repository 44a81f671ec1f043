"""What the file door needs from outside: storage behind one protocol, and a way to speak to the control plane."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

from limen.edge.sftp.jail import JailedPath
from limen.wire.agent import Applied, Authenticate, Events, Receipt, Release


@dataclass(frozen=True, slots=True)
class Entry:
    """An object or a directory. ``mtime`` is Unix seconds, 0 when the store knows none."""

    name: str
    is_directory: bool
    size: int = 0
    mtime: int = 0


class Reader(Protocol):
    """One object, as it was when it was opened."""

    @property
    def size(self) -> int:
        """Bytes in all."""
        ...

    @property
    def mtime(self) -> int:
        """Unix seconds."""
        ...

    async def read(self, offset: int, length: int) -> bytes:
        """Exactly ``length`` bytes at ``offset``, fewer only at the end.

        Raises:
            StorageError: also when the object has been replaced meanwhile.
        """
        ...

    async def close(self) -> None:
        """Let go of it."""
        ...


class Upload(Protocol):
    """An object in the making; nobody sees it before :meth:`complete`."""

    async def write(self, data: bytes | memoryview) -> None:
        """Append; waits while the store is slower than the client."""
        ...

    async def complete(self) -> None:
        """Make it an object, in one step. On failure nothing is stored."""
        ...

    async def abort(self) -> bool:
        """Leave nothing behind; ``False`` when it had been completed before. May be called at any time, and again."""
        ...


class Storage(Protocol):
    """One connection's place for files. All methods raise ``StorageError`` and nothing else on purpose."""

    async def stat(self, path: JailedPath) -> Entry:
        """The object or directory at ``path``; raises ``Missing``."""
        ...

    def scan(self, path: JailedPath) -> AsyncIterator[list[Entry]]:
        """The children of a directory, in pages; raises ``Missing``."""
        ...

    async def open_reader(self, path: JailedPath) -> Reader:
        """An object for reading; raises ``Missing`` or ``IsDirectory``."""
        ...

    async def open_upload(self, path: JailedPath) -> Upload:
        """A new object for writing; what is there stays until :meth:`Upload.complete`."""
        ...

    async def remove(self, path: JailedPath) -> None:
        """Delete an object."""
        ...

    async def make_directory(self, path: JailedPath) -> None:
        """Make an empty directory; raises ``Exists``."""
        ...

    async def remove_directory(self, path: JailedPath) -> None:
        """Delete an empty directory; raises ``NotEmpty``."""
        ...

    async def rename(self, old: JailedPath, new: JailedPath, *, overwrite: bool) -> None:
        """Move an object or a directory; all or nothing as far as the store can."""
        ...

    async def capacity(self) -> tuple[int, int]:
        """(total, free) bytes to show in ``df``."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...


DoorMessage = Authenticate | Receipt | Release | Applied | Events


class Sender(Protocol):
    """The agent channel as the door uses it."""

    async def send(self, message: DoorMessage) -> None:
        """Send one message in order.

        Raises:
            Unavailable: when the channel is down.
        """
        ...
