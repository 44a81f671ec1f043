"""The vault room: secrets with versions behind a Vault-compatible door.

Vocabulary: a *mount* is a resource of kind ``vault``; a *secret* lives at a path of a mount and has *versions*;
a *token* belongs to a person or a *workload* and is the credential of a vault request; a *passage* is one
authorised request (token, mount, action, grant); the *dialect* is the HTTP API of HashiCorp Vault's KV v2.

Invariants:

- Every request is authorised against the database row by row: token, subject, block, grant. Nothing that was
  allowed is remembered in the process. A read answers only if its grant is still live in the transaction that
  records it; a write commits only while it holds its grant's row, so no write follows a revocation.
- A value is sealed and opened inside the custody daemon. This process holds plaintext only while answering.
- Every use is recorded in the transaction that does it (reads: in the transaction that precedes the answer).
  A record names the path, sealed, and never the value.

Start with :mod:`limen.control.vault.rules.versions`, then :mod:`limen.control.vault.service.door`.
"""
