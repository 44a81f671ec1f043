"""Reading migration files: names, order, duplicates, and the shipped directory itself."""

import hashlib
from pathlib import Path

import pytest

from limen.db.errors import MigrationRefused
from limen.db.migrate import read_migrations


def test_files_come_in_order_with_their_checksums(tmp_path: Path) -> None:
    for name in ("0010_later.sql", "0002_sooner.sql"):
        (tmp_path / name).write_bytes(name.encode())
    (tmp_path / "README.md").write_text("not a migration")
    found = read_migrations(tmp_path)
    assert [one.number for one in found] == [2, 10]
    assert found[0].checksum == hashlib.sha256(b"0002_sooner.sql").hexdigest()


@pytest.mark.parametrize("name", ["1_short.sql", "0001-dash.sql", "0001_Upper.sql", "00001_long.sql", "first.sql"])
def test_a_wrong_name_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(MigrationRefused, match="not named like a migration"):
        read_migrations(tmp_path)


def test_two_files_with_one_number_are_refused(tmp_path: Path) -> None:
    (tmp_path / "0001_a.sql").touch()
    (tmp_path / "0001_b.sql").touch()
    with pytest.raises(MigrationRefused, match="same number"):
        read_migrations(tmp_path)


def test_the_shipped_migrations_begin_with_the_platform() -> None:
    shipped = read_migrations()
    assert shipped[0].name == "0001_platform.sql"
    assert all(one.sql.strip() for one in shipped)
