"""The number of times that each form waits for the server, counted on the wire."""

import tempfile
from pathlib import Path

from limen.db.database import Database
from limen.db.source import SocketSource
from limen.kernel.facts import Fact, FactKind
from limen.kernel.ids import new_id
from tests.support.cipher import RandomFieldCipher
from tests.support.postgres import Tenants
from tests.support.relay import relay
from tests.support.scratch import scratch_directory


async def test_round_trips(scratch_source: SocketSource, database: Database, tenants: Tenants) -> None:
    with tempfile.TemporaryDirectory(dir=scratch_directory("relay")) as directory:
        source = SocketSource(Path(directory), scratch_source.database)
        async with (
            relay(scratch_source.directory, Path(directory)) as counting,
            Database(source, RandomFieldCipher(), pool_size=1) as relayed,
        ):
            # More often than psycopg's threshold for prepared statements, which must not cost a trip of its own.
            for _ in range(12):
                before = counting.round_trips
                await relayed.query(tenants.a, "SELECT id FROM tenants WHERE id = %s", [tenants.a])
                assert counting.round_trips - before == 1

            before = counting.round_trips
            async with relayed.transaction(tenants.a) as tx:
                await tx.fetch("SELECT 1")
            assert counting.round_trips - before == 3  # begin + set tenant, statement, commit

            before = counting.round_trips
            async with relayed.transaction(tenants.a) as tx:
                tx.fact_changed(Fact(FactKind.PERSON, new_id()))
            assert counting.round_trips - before == 4  # begin, lock, version + outbox + notify, commit
