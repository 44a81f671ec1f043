"""TLS contexts: version 1.3 only, keys kept out of shared places.

Three doors: :func:`server_context` for people and tools, :func:`agent_server_context` for the mutual-TLS
door that lets in only keys certified by the agent authority, :func:`agent_client_context` for the agent's
side of it. A certificate or key may be given as PEM bytes or as the path of a PEM file.

OpenSSL reads a certificate chain only from files, so PEM bytes pass through an anonymous memory file of
this process; where ``/proc`` forbids that (a process that is not dumpable), through a temporary file of
mode 0600.
"""

import os
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from limen.kernel.errors import Malformed

Pem = bytes | Path


def server_context(certificate: Pem, key: Pem) -> ssl.SSLContext:
    """TLS 1.3 for a server that asks for no client certificate.

    Raises:
        Malformed: when certificate or key cannot be read or do not belong together.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _harden(context)
    # Sessions are not resumed: a resumed handshake would not look at the client's certificate again.
    context.num_tickets = 0
    _load(context, certificate, key)
    return context


def agent_server_context(certificate: Pem, key: Pem, agent_ca: Pem) -> ssl.SSLContext:
    """TLS 1.3 for the agents' door: the handshake fails without a certificate of the agent authority.

    Raises:
        Malformed: when a file cannot be read.
    """
    context = server_context(certificate, key)
    context.verify_mode = ssl.CERT_REQUIRED
    _trust(context, agent_ca)
    return context


def agent_client_context(certificate: Pem, key: Pem, server_ca: Pem) -> ssl.SSLContext:
    """TLS 1.3 for an agent: shows its certificate, trusts the control plane's authority and nothing else.

    The server's name is checked.

    Raises:
        Malformed: when a file cannot be read.
    """
    context = client_context(server_ca)
    _load(context, certificate, key)
    return context


def client_context(server_ca: Pem | None = None) -> ssl.SSLContext:
    """TLS 1.3 for a client; trusts ``server_ca`` and nothing else, or the system's authorities when None.

    Raises:
        Malformed: when the file cannot be read.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _harden(context)
    if server_ca is None:
        context.load_default_certs()
    else:
        _trust(context, server_ca)
    return context


def _harden(context: ssl.SSLContext) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_TICKET
    context.verify_flags |= ssl.VERIFY_X509_STRICT


def _trust(context: ssl.SSLContext, authority: Pem) -> None:
    try:
        pem = authority if isinstance(authority, bytes) else authority.read_bytes()
        context.load_verify_locations(cadata=pem.decode("ascii"))
    except (OSError, ValueError, ssl.SSLError) as exc:
        raise Malformed(
            f"cannot read the authority's certificate ({_name(authority)})",
            fix="give a file of PEM certificates",
        ) from exc


def _load(context: ssl.SSLContext, certificate: Pem, key: Pem) -> None:
    with ExitStack() as files:
        try:
            certificate_path = files.enter_context(_as_file(certificate))
            key_path = files.enter_context(_as_file(key))
            context.load_cert_chain(certificate_path, key_path, password=_no_password)
        except (OSError, ValueError, ssl.SSLError) as exc:
            raise Malformed(
                f"cannot use certificate {_name(certificate)} with key {_name(key)}",
                fix="both must be readable PEM files that belong together, the key without a passphrase",
            ) from exc


def _no_password() -> str:
    """Keeps OpenSSL from asking on the terminal."""
    raise ValueError("the key has a passphrase")


def _name(pem: Pem) -> str:
    return "in memory" if isinstance(pem, bytes) else str(pem)


@contextmanager
def _as_file(pem: Pem) -> Iterator[str]:
    if isinstance(pem, Path):
        yield str(pem)
        return
    descriptor = os.memfd_create("limen-pem", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, pem)
        path = f"/proc/self/fd/{descriptor}"
        if os.access(path, os.R_OK):
            yield path
            return
    finally:
        os.close(descriptor)
    with tempfile.NamedTemporaryFile(prefix="limen-pem-") as file:  # made with mode 0600, removed on exit
        file.write(pem)
        file.flush()
        yield file.name
