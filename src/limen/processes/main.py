"""The ``limen`` command: processes by name, everything else is the command line of :mod:`limen.cli`."""

import importlib
import sys
from collections.abc import Sequence

# Imported only when asked for: an edge host has installed only what its own process needs.
PROCESSES = {
    "up": "limen.processes.up",
    "serve": "limen.processes.serve.main",
    "keyd": "limen.processes.keyd",
    "gateway": "limen.processes.gateway",
    "client": "limen.processes.client",
    "sftp": "limen.processes.sftp",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a process or a command; returns the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    name = given[0] if given else ""
    module_name = PROCESSES.get(name, "limen.cli.main")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as exc:
        if exc.name is not None and exc.name.split(".")[0] == "limen":
            raise
        extra = name if name in PROCESSES and name != "up" else "all" if name == "up" else "cli"
        print(f"limen: '{name}' needs the package {exc.name} (install limen[{extra}])", file=sys.stderr)
        return 1
    status: int = module.main(given[1:] if name in PROCESSES else given)
    return status


if __name__ == "__main__":
    sys.exit(main())
