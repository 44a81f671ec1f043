"""The trap: a TUN device whose packets this process reads and answers, and a raw socket to send held ones again.

The device is not persistent: it disappears with this process, and every route to it with it.
"""

import asyncio
import contextlib
import fcntl
import os
import socket
import struct
from collections.abc import Callable

from limen.edge.client.packets import Packet, address_text
from limen.edge.wireguard.preflight import HostUnfit

MAX_PACKET_BYTES = 65_535
READS_PER_WAKE = 64

_TUNSETIFF = 0x400454CA
_IFF_TUN, _IFF_NO_PI = 0x0001, 0x1000


class Trap:
    """An open TUN device. Packets arrive by callback once :meth:`listen` was called."""

    def __init__(self, name: str) -> None:
        """Make the device ``name``.

        Raises:
            HostUnfit: when this host does not let us.
        """
        try:
            self._device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as exc:
            raise HostUnfit(f"cannot open /dev/net/tun: {exc.strerror}", fix="run as root on a host with TUN") from exc
        try:
            fcntl.ioctl(self._device, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TUN | _IFF_NO_PI))
            self._raw = socket.socket(socket.AF_INET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.IPPROTO_RAW)
        except OSError as exc:
            os.close(self._device)
            raise HostUnfit(
                f"cannot make the device {name}: {exc.strerror}",
                fix="run as root; stop another client of the same identity",
            ) from exc
        self._raw.setblocking(False)
        self.name = name
        self._open = True

    def listen(self, deliver: Callable[[bytes], None]) -> None:
        """Call ``deliver`` with each packet from now on."""
        asyncio.get_running_loop().add_reader(self._device, self._read, deliver)

    def answer(self, packet: bytes) -> None:
        """Give the host a packet as if it came from the network; lost when the device is down."""
        with contextlib.suppress(OSError):
            os.write(self._device, packet)

    def send_on(self, packet: Packet) -> None:
        """Send a packet by the routes of now; lost, like any packet, when that fails."""
        with contextlib.suppress(OSError):
            self._raw.sendto(packet.data, (address_text(packet.destination), 0))

    def close(self) -> None:
        """Remove the device. Idempotent."""
        if self._open:
            self._open = False
            asyncio.get_running_loop().remove_reader(self._device)
            self._raw.close()
            os.close(self._device)

    def _read(self, deliver: Callable[[bytes], None]) -> None:
        # Bounded, so that a flood into the trap does not starve the channel.
        for _ in range(READS_PER_WAKE):
            try:
                packet = os.read(self._device, MAX_PACKET_BYTES)
            except OSError:
                return
            deliver(packet)
