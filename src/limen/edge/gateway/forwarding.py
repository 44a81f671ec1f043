"""``net.ipv4.ip_forward``: switched on while the gateway runs, put back on exit if it was the gateway that did it."""

from pathlib import Path

import structlog

from limen.edge.wireguard.preflight import HostUnfit

IP_FORWARD = Path("/proc/sys/net/ipv4/ip_forward")

_log = structlog.get_logger("limen.gateway")


class Forwarding:
    """The host's switch for forwarding IPv4."""

    def __init__(self, path: Path = IP_FORWARD) -> None:
        self._path = path
        self._changed = False

    def switch_on(self) -> None:
        """Switch it on, if it is off.

        Raises:
            HostUnfit: when this process may not.
        """
        if self._path.read_text().strip() != "0":
            return
        try:
            self._path.write_text("1\n")
        except OSError as exc:
            raise HostUnfit(
                "IP forwarding is off on this host and this process may not switch it on",
                fix="run 'sysctl -w net.ipv4.ip_forward=1', and set it in /etc/sysctl.d to last",
            ) from exc
        self._changed = True
        _log.info("switched on IP forwarding (net.ipv4.ip_forward=1); it is put back when the gateway stops")

    def put_back(self) -> None:
        """Switch it off again, if :meth:`switch_on` had to switch it on."""
        if self._changed:
            self._changed = False
            self._path.write_text("0\n")
