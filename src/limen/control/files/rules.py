"""What names, jails, places, keys and networks may look like. Pure."""

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from ipaddress import ip_address, ip_network
from typing import Final
from urllib.parse import urlsplit

from limen.control.files.model import Place, Provider
from limen.kernel.access import ACTIONS_OF_KIND, Action, ResourceKind
from limen.kernel.errors import Malformed

SLUG_BYTES: Final = 8
SLUG_CHARACTERS: Final = 12
MIN_PASSWORD_CHARACTERS: Final = 12
MAX_PASSWORD_BYTES: Final = 1024
MAX_SOURCES: Final = 32
MIN_RSA_BYTES: Final = 256
"""Length of the modulus field of a 2048-bit key."""

_USERNAME = re.compile(r"[a-z0-9_][a-z0-9._-]{0,62}")
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]")
_REGION = re.compile(r"[a-z0-9-]{0,63}")
_KEY_TYPES: Final = frozenset(
    {
        "ssh-ed25519",
        "ssh-rsa",
        "ecdsa-sha2-nistp256",
        "ecdsa-sha2-nistp384",
        "ecdsa-sha2-nistp521",
        "sk-ssh-ed25519@openssh.com",
        "sk-ecdsa-sha2-nistp256@openssh.com",
    }
)


def slug_of(random: bytes) -> str:
    """A slug of :data:`SLUG_BYTES` random bytes: 60 bits as lower-case base32."""
    return base64.b32encode(random).decode().lower()[:SLUG_CHARACTERS]


def checked_username(username: str) -> str:
    """An SFTP user name.

    Raises:
        Malformed: otherwise.
    """
    if not _USERNAME.fullmatch(username):
        raise Malformed(
            "an SFTP user name is 1 to 63 lower-case letters, digits, '.', '_' or '-'", fix="choose another name"
        )
    return username


def checked_prefix(text: str, what: str) -> str:
    """A prefix or jail: names joined by ``/``, in canonical form without slashes at the ends.

    Raises:
        Malformed: a name is ``.`` or ``..``, holds control characters or a backslash, or is too long.
    """
    names = [name for name in text.split("/") if name]
    for name in names:
        if name in {".", ".."} or "\\" in name or not name.isprintable() or len(name.encode()) > 255:
            raise Malformed(f"the {what} holds a name that is not allowed", fix="use plain names joined by /")
    if sum(len(name.encode()) + 1 for name in names) > 512:
        raise Malformed(f"the {what} is longer than 512 bytes", fix="use a shorter one")
    return "/".join(names)


def checked_place(place: Place) -> Place:
    """A place in canonical form.

    Raises:
        Malformed: a field is missing, wrong, or not of this provider.
    """
    prefix = checked_prefix(place.prefix, "prefix")
    if place.provider is Provider.LOCAL:
        if place.endpoint or place.bucket or place.region:
            raise Malformed("a local folder has no endpoint, bucket or region", fix="give root only")
        root = checked_prefix(place.root, "folder")
        if not root:
            raise Malformed("a local connection needs a folder name", fix="give root, for example 'inbox'")
        return Place(Provider.LOCAL, prefix=prefix, root=root)
    if place.root:
        raise Malformed("a bucket has no root", fix="give bucket and prefix")
    if not _BUCKET.fullmatch(place.bucket):
        raise Malformed("a bucket name has 3 to 63 letters, digits, '.', '_' or '-'", fix="check the bucket's name")
    if not _REGION.fullmatch(place.region):
        raise Malformed("this is not a region", fix="for example eu-central-1")
    return Place(Provider.S3, _checked_endpoint(place.endpoint), place.bucket, place.region, prefix)


def _checked_endpoint(endpoint: str) -> str:
    if not endpoint:
        return ""
    parts = urlsplit(endpoint)
    try:
        port_is_valid = parts.port is None or parts.port > 0
    except ValueError:
        port_is_valid = False
    plain = not (parts.path.strip("/") or parts.query or parts.fragment or parts.username or parts.password)
    if parts.scheme not in {"https", "http"} or not parts.hostname or not port_is_valid or not plain:
        raise Malformed(
            "the endpoint is not an http(s) URL of a server", fix="write it like https://s3.example.com:9000"
        )
    return f"{parts.scheme}://{parts.netloc}"


def checked_actions(actions: Iterable[str]) -> frozenset[Action]:
    """The actions of an SFTP user; none given means all of a bucket.

    Raises:
        Malformed: for an action that a bucket does not have.
    """
    allowed = ACTIONS_OF_KIND[ResourceKind.BUCKET]
    wanted = set(actions)
    if unknown := wanted - {str(action) for action in allowed}:
        raise Malformed(f"'{min(unknown)[:32]}' is not an action of a bucket", fix="read, write, list, delete")
    return frozenset(Action(action) for action in wanted) or allowed


def checked_sources(networks: Iterable[str]) -> tuple[str, ...]:
    """Networks that a credential may come from, in canonical form.

    Raises:
        Malformed: one is not a network, or there are too many.
    """
    found = []
    for text in networks:
        try:
            found.append(str(ip_network(text.strip(), strict=False)))
        except ValueError:
            raise Malformed("a source is not a network", fix="write it like 203.0.113.0/24") from None
    if len(found) > MAX_SOURCES:
        raise Malformed(f"a credential has at most {MAX_SOURCES} sources", fix="give wider networks")
    return tuple(sorted(set(found)))


def comes_from(sources: tuple[str, ...], address: str) -> bool:
    """Whether ``address`` lies in one of ``sources``; no sources means anywhere."""
    if not sources:
        return True
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(parsed, "ipv4_mapped", None) or parsed
    return any(mapped in ip_network(source) for source in sources)


def parsed_key(line: str) -> tuple[str, str]:
    """(canonical one-line form, fingerprint) of an OpenSSH public key.

    Raises:
        Malformed: not a public key, or of a kind that is not accepted.
    """
    fields = line.split()
    if len(fields) < 2 or fields[0] not in _KEY_TYPES:
        raise Malformed("this is not an OpenSSH public key of an accepted type", fix="paste the line of id_ed25519.pub")
    try:
        blob = base64.b64decode(fields[1], validate=True)
    except (binascii.Error, ValueError):
        raise Malformed("the public key is damaged", fix="paste the whole line of the .pub file") from None
    parts = _strings(blob)
    if not parts or parts[0] != fields[0].encode() or base64.b64encode(blob).decode() != fields[1]:
        raise Malformed("the public key is damaged", fix="paste the whole line of the .pub file")
    if fields[0] == "ssh-rsa" and (len(parts) != 3 or len(parts[2].lstrip(b"\0")) < MIN_RSA_BYTES):
        raise Malformed("an RSA key needs at least 2048 bits", fix="make an ed25519 key: ssh-keygen -t ed25519")
    digest = base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")
    return f"{fields[0]} {fields[1]}", f"SHA256:{digest}"


def _strings(blob: bytes) -> list[bytes]:
    """The length-prefixed strings of an SSH blob; empty when it does not parse to its very end."""
    parts, position = [], 0
    while position < len(blob):
        if position + 4 > len(blob):
            return []
        length = int.from_bytes(blob[position : position + 4], "big")
        position += 4
        if length > len(blob) - position:
            # The flags byte of no key type comes last, so every key is a plain sequence of strings.
            return []
        parts.append(blob[position : position + length])
        position += length
    return parts


def checked_password(password: str) -> bytes:
    """A password that a person chose for an SFTP user.

    Raises:
        Malformed: too short or too long.
    """
    encoded = password.encode("utf-8", "surrogatepass")
    if len(password) < MIN_PASSWORD_CHARACTERS or len(encoded) > MAX_PASSWORD_BYTES:
        raise Malformed(
            f"a password needs at least {MIN_PASSWORD_CHARACTERS} characters", fix="leave it out to get a random one"
        )
    return encoded


def event_time(at: float, now: datetime, *, oldest_seconds: float, skew_seconds: float) -> datetime:
    """When a door event happened, by the door's clock as far as that can be: never in the future, never too old."""
    age = now.timestamp() - at
    if -skew_seconds <= age <= oldest_seconds:
        return min(now, datetime.fromtimestamp(at, now.tzinfo))
    return now


def moment(seconds: float) -> datetime:
    """Unix seconds of an agent as a time.

    Raises:
        Malformed: not a time at all.
    """
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        raise Malformed("a time is out of range", fix="run the same release on both ends") from None
