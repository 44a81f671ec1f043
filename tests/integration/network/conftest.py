"""Each test gets a lab of its own; without root there is none."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.netns import Lab, laboratory
from tests.support.network_control import Site


@pytest.fixture
def lab() -> Iterator[Lab]:
    if os.geteuid() != 0:
        pytest.skip("needs root and network namespaces")
    with laboratory() as found:
        yield found


@pytest.fixture
def site(lab: Lab, tmp_path: Path) -> Site:
    return Site(lab, tmp_path).start()
