"""One platform for all tests of the command line in a worker."""

from collections.abc import Iterator

import pytest

from tests.integration.cli.installation import OWNER, PASSWORD, Installation, Terminal, installation
from tests.support.scratch import scratch_directory


@pytest.fixture(scope="session")
def platform() -> Iterator[Installation]:
    """``limen up``, just started."""
    with installation(scratch_directory("limen-cli")) as running:
        yield running


@pytest.fixture(scope="session")
def owner(platform: Installation) -> Terminal:
    """The first tenant's owner, set up with the link that ``limen up`` printed, and signed in."""
    found = platform.terminal("owner")
    who = ("--email", OWNER, "--name", "Olive Owner")
    found.ok("setup", platform.link, "--ca", platform.ca, *who, "--password-stdin", given=PASSWORD + "\n")
    return platform.signed_in("owner", OWNER, "home")


@pytest.fixture(scope="session")
def stranger(platform: Installation, owner: Terminal) -> Terminal:
    """The owner of another tenant."""
    operator = ("--operator-token-file", platform.data / "operator.token")
    link = owner.ok("tenant", "create", "beta", *operator)
    found = platform.terminal("stranger")
    who = ("--email", "sam@beta.example", "--name", "Sam Stranger")
    found.ok("setup", link, "--ca", platform.ca, *who, "--password-stdin", given=PASSWORD + "\n")
    return platform.signed_in("stranger", "sam@beta.example", "beta")
