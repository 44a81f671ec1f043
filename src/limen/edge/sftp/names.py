"""How objects and directories look to an SFTP client: attributes and the line of ``ls -l``. Pure."""

import time
from typing import Final

from limen.edge.sftp import protocol as sftp
from limen.edge.sftp.ports import Entry
from limen.edge.sftp.protocol import Attributes

FILE_MODE: Final = 0o100640
DIRECTORY_MODE: Final = 0o040750


def attributes_of(entry: Entry) -> Attributes:
    """Attributes of an entry; modes say only which kind it is."""
    return Attributes(entry.size, DIRECTORY_MODE if entry.is_directory else FILE_MODE, entry.mtime)


def name_of(entry: Entry, now: float) -> sftp.Name:
    """With the ``ls -l`` line that version 3 wants; recent files show the time, older ones the year."""
    recent = now - 180 * 86400 < entry.mtime <= now + 3600
    when = time.strftime("%b %d %H:%M" if recent else "%b %d  %Y", time.gmtime(entry.mtime))
    kind = "drwxr-x---" if entry.is_directory else "-rw-r-----"
    line = f"{kind}    1 limen    limen    {entry.size:>12} {when} {entry.name}"
    return sftp.Name(entry.name.encode(), line.encode(), attributes_of(entry))
