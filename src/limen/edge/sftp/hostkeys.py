"""The SSH host keys of this door: made once, kept in the state directory, mode 0600."""

from pathlib import Path
from typing import Final

import asyncssh

from limen.edge.channel.identity import write_private
from limen.kernel.errors import Malformed

_KINDS: Final = {"ssh_host_ed25519_key": "ssh-ed25519", "ssh_host_rsa_key": "ssh-rsa"}
_RSA_BITS: Final = 3072


def load_host_keys(directory: Path) -> list[asyncssh.SSHKey]:
    """The host keys in ``directory``, ed25519 first; missing ones are made.

    Raises:
        Malformed: a key file is damaged or others may read it (``BadIdentity`` when it cannot be written).
    """
    return [_load_or_make(directory / name, algorithm) for name, algorithm in _KINDS.items()]


def fingerprints(keys: list[asyncssh.SSHKey]) -> list[str]:
    """``algorithm SHA256:…`` of each key, as ``ssh`` shows it."""
    return [f"{key.get_algorithm()} {key.get_fingerprint()}" for key in keys]


def known_hosts(keys: list[asyncssh.SSHKey], host: str, port: int) -> list[str]:
    """Ready lines for a client's ``known_hosts``."""
    name = host if port == 22 else f"[{host}]:{port}"
    return [f"{name} {key.export_public_key().decode().strip()}" for key in keys]


def _load_or_make(path: Path, algorithm: str) -> asyncssh.SSHKey:
    if not path.exists():
        key = (
            asyncssh.generate_private_key(algorithm, key_size=_RSA_BITS)
            if algorithm == "ssh-rsa"
            else asyncssh.generate_private_key(algorithm)
        )
        write_private(path, key.export_private_key())
        return key
    if path.stat().st_mode & 0o077:
        raise Malformed(f"others may read the host key {path}", fix=f"chmod 600 {path}")
    try:
        return asyncssh.read_private_key(path)
    except (OSError, asyncssh.KeyImportError, ValueError):
        raise Malformed(
            f"the host key {path} is damaged", fix="put it back from a backup, or remove it to get a new one"
        ) from None
