"""From a provider to a database that is fit for use: started, migrated, audited."""

from pathlib import Path
from typing import Protocol

from limen.db.catalogue import audit_catalogue
from limen.db.migrate import DIRECTORY, migrate
from limen.db.source import ConnectionSource


class Provider(ConnectionSource, Protocol):
    """Runs a PostgreSQL, or knows one: :class:`~limen.db.embedded.EmbeddedPostgres`, or
    :class:`~limen.db.external.ExternalPostgres`.
    """

    async def start(self) -> None:
        """Make the server reachable, with roles and database in place.

        Raises:
            Unavailable: it is not, and why.
        """
        ...

    async def stop(self) -> None:
        """Stop what ``start`` started."""
        ...


async def prepare(provider: Provider, migrations: Path = DIRECTORY) -> tuple[str, ...]:
    """Start, migrate and audit; returns the migrations that were applied. Stops the provider again when one fails.

    Raises:
        Unavailable: the server cannot be started or does not answer.
        MigrationRefused: see :func:`limen.db.migrate.migrate`.
        CatalogueViolated: the schema breaks a rule of tenant isolation.
    """
    await provider.start()
    try:
        applied = await migrate(provider, migrations)
        await audit_catalogue(provider)
    except BaseException:
        await provider.stop()
        raise
    return applied
