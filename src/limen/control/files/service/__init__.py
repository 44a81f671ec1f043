"""What the processes and the shells see of files: connections, SFTP users, sign-in."""

from limen.control.files.service.connections import ConnectionService
from limen.control.files.service.sign_in import FileSignIn, SignInAnswer
from limen.control.files.service.users import SftpUserService

__all__ = ["ConnectionService", "FileSignIn", "SftpUserService", "SignInAnswer"]
