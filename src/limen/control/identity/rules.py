"""Pure rules of identity: normal forms, password policy, throttle schedule, role changes.

Throttle (row I5): counted per account and client network (IPv4 /24, IPv6 /48), and separately per address
(IPv4 /32, IPv6 /64). From the 5th failure in a row an account is shut to that network for 60 s after each
failure, from the 10th for 5 min, from the 20th for 1 h. An address may fail with many accounts (offices share
one), so its thresholds are higher. A counter is forgotten after a day (account) or an hour (address) of silence.
"""

import ipaddress
import unicodedata
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from limen.kernel.errors import Conflict, Denied, Malformed
from limen.kernel.principal import Role

MIN_PASSWORD = 12
MAX_PASSWORD = 1024
MAX_EMAIL = 254
MAX_NAME = 200
SESSION_LIFETIME = timedelta(hours=8)
LINK_LIFETIME = timedelta(hours=24)


def normalise_email(text: str) -> str:
    """The form under which an address is found: NFC, trimmed, case-folded.

    Raises:
        Malformed: when it cannot be an address. The message does not repeat it.
    """
    email = unicodedata.normalize("NFC", text).strip().casefold()
    local, at, domain = email.rpartition("@")
    plausible = (
        at
        and local
        and "." in domain.strip(".")
        and "@" not in local
        and len(email) <= MAX_EMAIL
        and not any(c.isspace() or unicodedata.category(c).startswith("C") for c in email)
        and all(domain.split("."))
    )
    if not plausible:
        raise Malformed("that is not an e-mail address", fix="write it like name@example.org")
    return email


def check_person_name(text: str) -> str:
    """NFC, trimmed, 1 to 200 printable characters.

    Raises:
        Malformed: otherwise.
    """
    return _printable(text, "name", MAX_NAME)


def check_group_name(text: str) -> str:
    """NFC, trimmed, 1 to 200 printable characters.

    Raises:
        Malformed: otherwise.
    """
    return _printable(text, "group name", MAX_NAME)


def _printable(text: str, what: str, limit: int) -> str:
    clean = unicodedata.normalize("NFC", text).strip()
    if not clean or len(clean) > limit or any(unicodedata.category(c) in {"Cc", "Cf", "Cs"} for c in clean):
        raise Malformed(f"{what} must be 1 to {limit} printable characters", fix=f"give a shorter or plainer {what}")
    return clean


def normalise_password(text: str) -> bytes:
    """NFC, UTF-8: the same password typed on another keyboard has the same bytes (NIST SP 800-63B, 3.1.1.2)."""
    return unicodedata.normalize("NFC", text).encode("utf-8", "surrogatepass")


def check_new_password(text: str) -> bytes:
    """Return the bytes to hash.

    Raises:
        Malformed: when shorter than 12 or longer than 1024 characters, or one character over and over.
    """
    normal = unicodedata.normalize("NFC", text)
    if len(normal) < MIN_PASSWORD:
        raise Malformed(f"the password needs at least {MIN_PASSWORD} characters", fix="use a sentence of a few words")
    if len(normal) > MAX_PASSWORD:
        raise Malformed(f"the password may have at most {MAX_PASSWORD} characters", fix="shorten it")
    if len(set(normal)) < 4:
        raise Malformed("the password repeats the same few characters", fix="use a sentence of a few words")
    return normalise_password(normal)


class Scope(StrEnum):
    """What a throttle counter counts."""

    ACCOUNT = "account"  # one account from one client network
    ADDRESS = "address"  # one client address, any account


_SCHEDULE: dict[Scope, tuple[tuple[int, timedelta], ...]] = {
    Scope.ACCOUNT: ((20, timedelta(hours=1)), (10, timedelta(minutes=5)), (5, timedelta(seconds=60))),
    Scope.ADDRESS: ((120, timedelta(hours=1)), (60, timedelta(minutes=5)), (30, timedelta(seconds=60))),
}
FORGOTTEN_AFTER = {Scope.ACCOUNT: timedelta(days=1), Scope.ADDRESS: timedelta(hours=1)}


@dataclass(frozen=True, slots=True)
class Counter:
    """Failures in a row, when the last one was, and until when further attempts are refused."""

    failures: int = 0
    last_at: datetime | None = None
    blocked_until: datetime | None = None


def refused_for(counter: Counter, now: datetime) -> float:
    """Seconds for which an attempt is refused; 0 when it may go on."""
    if counter.blocked_until is None or counter.blocked_until <= now:
        return 0.0
    return (counter.blocked_until - now).total_seconds()


def count_attempt(scope: Scope, counter: Counter, now: datetime) -> Counter:
    """Count an attempt as failed before its password is looked at; success takes it back."""
    silent = counter.last_at is None or now - counter.last_at >= FORGOTTEN_AFTER[scope]
    failures = 1 if silent else counter.failures + 1
    lock = next((lock for threshold, lock in _SCHEDULE[scope] if failures >= threshold), None)
    return Counter(failures, now, now + lock if lock is not None else None)


def client_network(source: str) -> str:
    """The network that an address is counted under: IPv4 /24, IPv6 /48; other sources as they are."""
    return _network(source, 24, 48)


def client_address(source: str) -> str:
    """The address that is counted: IPv4 /32, IPv6 /64, since one IPv6 host owns its /64."""
    return _network(source, 32, 64)


def _network(source: str, v4: int, v6: int) -> str:
    try:
        address = ipaddress.ip_address(source.split("%", 1)[0])
    except ValueError:
        return source
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return str(ipaddress.ip_network((address, v4 if address.version == 4 else v6), strict=False))


def check_role_change(by: Role, before: Role | None, after: Role | None, other_owners: int) -> None:
    """May someone of role ``by`` turn ``before`` into ``after``? ``None`` is not (or no longer) in the tenant.

    Raises:
        Denied: when only an owner may do so.
        Conflict: when the tenant would be left without an owner.
    """
    if by is not Role.OWNER and Role.OWNER in (before, after):
        raise Denied("only an owner may make, change or remove an owner", fix="ask an owner of your tenant")
    if before is Role.OWNER and after is not Role.OWNER and other_owners == 0:
        raise Conflict("a tenant needs at least one owner", fix="make someone else owner first")
