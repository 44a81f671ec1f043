"""Dedicated system users are found, made once, and made without a way to sign in."""

import pwd
import subprocess
from collections.abc import Iterator
from uuid import uuid4

import pytest

from limen.kernel.errors import Malformed
from limen.runtime.users import current_user, find_or_create_user, find_user
from tests.support.postgres import is_root


@pytest.fixture
def name() -> Iterator[str]:
    chosen = f"limen-t-{uuid4().hex[:12]}"
    yield chosen
    if find_user(chosen) is not None:
        subprocess.run(["/usr/sbin/userdel", chosen], check=True, capture_output=True)


def test_existing_users_are_found() -> None:
    assert find_or_create_user("nobody") == find_user("nobody")
    assert find_user("no-such-user-here") is None
    assert pwd.getpwuid(current_user().uid).pw_name == current_user().name


@pytest.mark.parametrize("bad", ["", "Root", "a b", "-x", "x" * 33, "a:b", "a\nb"])
def test_names_that_useradd_could_misread_are_refused(bad: str) -> None:
    with pytest.raises(Malformed):
        find_or_create_user(bad)


@pytest.mark.root
@pytest.mark.skipif(not is_root(), reason="makes a system user")
def test_a_missing_user_is_made_once_without_shell_or_password(name: str) -> None:
    made = find_or_create_user(name)
    assert find_or_create_user(name) == made
    entry = pwd.getpwnam(name)
    assert 0 < entry.pw_uid < 1000
    assert entry.pw_shell.endswith(("nologin", "false"))
    shadow = subprocess.run(["getent", "shadow", name], capture_output=True, text=True, check=True).stdout
    assert shadow.split(":")[1].startswith(("!", "*"))
