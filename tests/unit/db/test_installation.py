"""Finding PostgreSQL's programs: newest first, the floor, and the version that data is pinned to."""

from pathlib import Path

import pytest

from limen.db.errors import ProviderFailed
from limen.db.installation import find_installation, find_installations, pinned_version


def install(root: Path, version: str, *programs: str) -> None:
    (root / version / "bin").mkdir(parents=True)
    for name in programs or ("postgres", "initdb"):
        (root / version / "bin" / name).touch()


def test_the_newest_complete_installation_above_the_floor_is_used(tmp_path: Path) -> None:
    for version in ("9.6", "14", "15", "17"):
        install(tmp_path, version)
    install(tmp_path, "18", "initdb")  # client package only
    assert [found.major for found in find_installations(tmp_path)] == [17, 15]
    assert find_installation(root=tmp_path).program("postgres") == tmp_path / "17" / "bin" / "postgres"
    assert find_installation(15, tmp_path).major == 15


@pytest.mark.parametrize(("major", "fix"), [(None, "apt install postgresql,"), (16, "apt install postgresql-16")])
def test_a_missing_installation_names_the_package(tmp_path: Path, major: int | None, fix: str) -> None:
    install(tmp_path, "14")
    with pytest.raises(ProviderFailed) as refused:
        find_installation(major, tmp_path)
    assert refused.value.fix.startswith(fix)


def test_the_data_directory_pins_the_version(tmp_path: Path) -> None:
    assert pinned_version(tmp_path) is None
    assert pinned_version(tmp_path / "absent") is None
    (tmp_path / "PG_VERSION").write_text("15\n")
    assert pinned_version(tmp_path) == 15
    (tmp_path / "PG_VERSION").write_text("not a number")
    with pytest.raises(ProviderFailed, match="not a usable"):
        pinned_version(tmp_path)
