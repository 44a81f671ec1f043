"""What a host must offer before an agent can build a tunnel. Each lack is one line that says what to do."""

import shutil
from collections.abc import Iterable
from pathlib import Path

from limen.kernel.errors import Unavailable

CAPABILITIES = {"CAP_NET_ADMIN": 12, "CAP_NET_RAW": 13}
_PACKAGES = {"wireguard-go": "wireguard-go", "nft": "nftables", "setpriv": "util-linux"}


class HostUnfit(Unavailable):
    """This host lacks something that the agent cannot do without."""

    code = "host-unfit"


def check_host(
    programs: Iterable[str],
    needed: Iterable[str] = tuple(CAPABILITIES),
    *,
    status: Path = Path("/proc/self/status"),
    tun: Path = Path("/dev/net/tun"),
) -> None:
    """Check capabilities, the TUN device and programs.

    Raises:
        HostUnfit: naming the first thing that is missing and its remedy.
    """
    capabilities = effective_capabilities(status.read_text())
    for name in needed:
        if not capabilities >> CAPABILITIES[name] & 1:
            raise HostUnfit(
                f"this process may not change the network ({name} is missing)",
                fix=f"run it as root, or under systemd with AmbientCapabilities={' '.join(needed)}",
            )
    if not tun.is_char_device():
        raise HostUnfit(
            "/dev/net/tun does not exist on this host",
            fix="load the module with 'modprobe tun'; in a container, pass --device /dev/net/tun",
        )
    for program in programs:
        if shutil.which(program) is None:
            raise HostUnfit(
                f"the program {program} is not installed",
                fix=f"install it with 'apt-get install {_PACKAGES.get(program, program)}'",
            )


def effective_capabilities(status: str) -> int:
    """The effective capability set in the text of ``/proc/self/status`` (see proc(5))."""
    for line in status.splitlines():
        if line.startswith("CapEff:"):
            return int(line.split()[1], 16)
    return 0
