"""What storage can raise. ``str(error)`` is fit for the SFTP client; ``diagnosis`` is for the admin: no secrets."""

from typing import ClassVar

from limen.kernel.errors import Conflict, LimenError, NotFound, Unavailable


class StorageError(LimenError):
    """Root of storage errors; by itself: the store refused or broke."""

    tag: ClassVar[str] = "storage-failed"

    def __init__(self, message: str = "the storage behind this folder failed", *, diagnosis: str = "") -> None:
        super().__init__(message)
        self.diagnosis = diagnosis


class Missing(StorageError, NotFound):
    """No such object or directory."""

    tag = "missing"

    def __init__(self, message: str = "no such file or directory") -> None:
        super().__init__(message)


class Exists(StorageError, Conflict):
    """Something is there already."""

    tag = "exists"

    def __init__(self, message: str = "this name is taken") -> None:
        super().__init__(message)


class IsDirectory(StorageError, Conflict):
    """A directory where an object is needed, or the other way round."""

    tag = "wrong-kind"


class NotEmpty(StorageError, Conflict):
    """A directory that still holds something."""

    tag = "not-empty"

    def __init__(self, message: str = "the directory is not empty") -> None:
        super().__init__(message)


class TooLarge(StorageError, Conflict):
    """More than this door moves in one step."""

    tag = "too-large"


class Changed(StorageError, Conflict):
    """The object was replaced while it was read."""

    tag = "changed"

    def __init__(self) -> None:
        super().__init__("the file was replaced while it was read; fetch it again")


class Refused(StorageError):
    """The store does not accept our credential for this."""

    tag = "storage-refused"

    def __init__(self, diagnosis: str) -> None:
        super().__init__("the storage behind this folder refused the request", diagnosis=diagnosis)


class Unreachable(StorageError, Unavailable):
    """The store does not answer in time."""

    tag = "storage-unreachable"

    def __init__(self, diagnosis: str) -> None:
        super().__init__("the storage behind this folder does not answer; try again later", diagnosis=diagnosis)
