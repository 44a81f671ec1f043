"""The mains of gateway and client: one process per identity, one line per error, and the status command."""

import json
from pathlib import Path

import pytest

from limen.edge.client.status import StatusFile
from limen.kernel.errors import Conflict
from limen.processes import client, gateway
from limen.processes.tunnel import execute, locked


def test_a_state_directory_belongs_to_one_process(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(Conflict, match="already runs"), locked(tmp_path):
        pass
    with locked(tmp_path):
        pass


def test_errors_are_one_line_even_out_of_a_group_of_tasks(capsys: pytest.CaptureFixture[str]) -> None:
    async def fail() -> None:
        raise ExceptionGroup("tasks", [ExceptionGroup("more", [Conflict("it broke", fix="mend it")])])

    assert execute("gateway", fail) == 1
    assert capsys.readouterr().err == "limen gateway: it broke (mend it)\n"


def test_a_defect_is_not_dressed_up_as_an_error_of_the_user() -> None:
    async def defect() -> None:
        raise ExceptionGroup("tasks", [ZeroDivisionError()])

    with pytest.raises(ExceptionGroup):
        execute("gateway", defect)


@pytest.mark.parametrize("arguments", [["--state", "x"], ["--advertise", "192.0.2.1"]])
def test_the_gateway_asks_for_what_it_needs(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        gateway.main(arguments)
    assert stopped.value.code == 2
    assert "required" in capsys.readouterr().err


def test_status_of_a_client(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = ["--state", str(tmp_path), "--status"]
    assert client.main(state) == 1
    assert "no client runs" in capsys.readouterr().err
    status = {
        "connected": True,
        "tunnel_address": "100.64.0.2",
        "reachable": [{"id": "1", "name": "wiki", "cidr": "10.0.0.1/32"}],
        "grants": [],
        "denials": [{"resource_id": "2", "resource": "payroll", "at": 1.0, "reason": "no policy", "fix": "ask"}],
    }
    StatusFile(tmp_path).write(status)
    assert client.main(state) == 0
    shown = capsys.readouterr().out
    assert "wiki" in shown
    assert "payroll: no policy (ask)" in shown
    assert client.main([*state, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == status
    StatusFile(tmp_path).remove()
    assert client.main(state) == 1
