"""The only way to PostgreSQL: tenant transactions, migrations, the embedded server, the catalogue audit.

Vocabulary: a *source* says how to connect as a role; a *role* is one PostgreSQL role with the narrowest
privileges that its job needs; a *tenant transaction* (:class:`~limen.db.database.Tx`) sees the rows of
exactly one tenant; a *system transaction* sees chosen columns of all tenants and exists for a short,
enumerated list of jobs.

Rules, each held by a test or by :mod:`limen.db.catalogue` at start-up:

* No SQL runs outside ``Database.query``, ``Database.transaction`` and ``Database.system``; migrations and the
  catalogue audit are the only others.
* The tenant is set with ``set_config('app.tenant', …, true)`` inside the transaction, never for a session.
* Only the commit of a tenant transaction writes ``tenant_versions`` and ``outbox``.
* No psycopg exception leaves this package; see :mod:`limen.db.errors`.

Start with :mod:`limen.db.database`.
"""
