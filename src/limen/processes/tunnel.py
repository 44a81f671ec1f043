"""What ``limen gateway`` and ``limen client`` share: enrol, lock, run driver and channel, leave in order."""

import argparse
import asyncio
import contextlib
import fcntl
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from limen import __version__
from limen.edge.channel import Channel, ChannelHandler, Identity, enrol, load_identity
from limen.edge.channel.identity import AGENT_FILE
from limen.kernel.errors import Conflict, LimenError
from limen.runtime.logs import configure_logs
from limen.wire.agent import AgentKind

GOODBYE_SECONDS = 3.0
SOFTWARE = f"limen {__version__}"


class TunnelDriver(ChannelHandler, Protocol):
    """The rim of a gateway or a client."""

    async def start(self) -> None:
        """Build everything on the host."""
        ...

    async def run(self) -> None:
        """Work until cancelled."""
        ...

    async def stop(self) -> None:
        """Take everything out of the host again."""
        ...


@dataclass(frozen=True, slots=True)
class Enrolment:
    """Where the identity lives, and the one-time token that makes it on the first start."""

    state: Path
    token: str = ""
    server: str = ""


async def enrolled(enrolment: Enrolment, kind: AgentKind) -> Identity:
    """The identity of this agent; enrols first when there is none and a token was given.

    Raises:
        LimenError: see :func:`limen.edge.channel.enrol` and :func:`limen.edge.channel.load_identity`.
        Conflict: when the state directory holds an agent of another kind.
    """
    if enrolment.token and not (enrolment.state / AGENT_FILE).exists():
        await enrol(enrolment.token, enrolment.state, kind, server=enrolment.server or None)
    identity = load_identity(enrolment.state)
    if identity.kind is not kind or identity.tenant_id is None:
        raise Conflict(
            f"{enrolment.state} holds the identity of a {identity.kind} agent, not of a {kind}",
            fix="give each agent a state directory of its own",
        )
    return identity


@contextlib.contextmanager
def locked(state: Path) -> Iterator[None]:
    """Hold the state directory for one process; the kernel releases it however the process ends.

    Raises:
        Conflict: when another process holds it.
    """
    descriptor = os.open(state / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict(
                f"another process already runs the agent in {state}", fix="stop it first, or use another --state"
            ) from None
        yield
    finally:
        os.close(descriptor)


async def keep_running(channel: Channel, driver: TunnelDriver, ready: Callable[[], None]) -> None:
    """Start the driver, keep it and the channel running until SIGTERM, SIGINT or an error, then clean up.

    Raises:
        LimenError: what ended it.
    """
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    await driver.start()
    try:
        ready()
        await _until_stopped(channel, driver, stopping)
    finally:
        await driver.stop()


async def _until_stopped(channel: Channel, driver: TunnelDriver, stopping: asyncio.Event) -> None:
    working = asyncio.create_task(driver.run())
    talking = asyncio.create_task(channel.run(driver))
    waiting = asyncio.create_task(stopping.wait())
    try:
        await asyncio.wait([working, talking, waiting], return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
        channel.stop()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GOODBYE_SECONDS):
                await asyncio.wait([talking])
        await _ended(working)
        await _ended(talking)


async def _ended(task: "asyncio.Task[None]") -> None:
    """Cancel a task and wait for its end; what it failed of is raised."""
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add what both agents can be told: ``--state``, ``--token``, ``--server``."""
    parser.add_argument("--state", type=Path, required=True, help="directory of this agent's identity")
    parser.add_argument("--token", default="", help="one-time enrolment token (first start only)")
    parser.add_argument("--server", default="", help="URL of the control plane, when the token's does not fit here")


def execute(name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> int:
    """Run a main; the exit status: 0, or 1 with one line on standard error that says what to do."""
    configure_logs(name)
    try:
        asyncio.run(work())
    except LimenError as exc:
        return _fail(name, exc)
    except BaseExceptionGroup as group:
        known = group.subgroup(LimenError)
        if known is None:
            raise
        return _fail(name, _first(known))
    return 0


def _first(group: BaseExceptionGroup[LimenError]) -> LimenError:
    inner = group.exceptions[0]
    return _first(inner) if isinstance(inner, BaseExceptionGroup) else inner


def _fail(name: str, exc: LimenError) -> int:
    print(f"limen {name}: {exc.message}" + (f" ({exc.fix})" if exc.fix else ""), file=sys.stderr)
    return 1
