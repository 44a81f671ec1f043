"""The HTTP API of HashiCorp Vault's KV v2, as ``hvac``, the ``bao`` and ``vault`` CLIs and External Secrets speak it.

:func:`vault_app` is the whole of it: a Starlette application that ``api`` mounts at ``/v1``. Recorded from OpenBao
2.7.2; where Limen is stricter (paths, sizes, depth of a document), it says so with a 400.

Traps, each held by a test: the CLI lists with ``GET ?list=true`` and hvac with the verb ``LIST`` (serve with h11,
httptools refuses it); hvac wants ``Content-Type`` to be exactly ``application/json``; a body may be ``null``; the
CLI sends versions as text; an empty listing and a secret that never was are 404 ``{"errors":[]}``, a deleted
version is 404 with a full body.
"""

from limen.control.vault.dialect.app import vault_app

__all__ = ["vault_app"]
