"""This process and those below it."""

import getpass
import math
import multiprocessing
import os
import random
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from marquee.errors import InfrastructureError, Stopped

_CGROUPS = Path("/sys/fs/cgroup")
_PORTS = range(10000, 32768)
"""Below those that Linux and macOS give to connections that go out, if nobody set it otherwise."""


def cpus(cgroups: Path = _CGROUPS) -> int:
    """Count the CPUs that this process may use: a container's limit counts, not the machine's.

    Args:
        cgroups: Where the control groups are.

    Returns:
        1 or more; a limit of 1.5 CPUs counts as 2.
    """
    allowed = len(os.sched_getaffinity(0))
    try:
        # In a container its own group stands at the top.
        quota, period = (cgroups / "cpu.max").read_text().split()
    except (OSError, ValueError):
        quota, period = _limit_of_version_1(cgroups / "cpu")
    if not quota.isdecimal():
        return allowed
    return max(1, min(allowed, math.ceil(int(quota) / int(period))))


def _limit_of_version_1(group: Path) -> tuple[str, str]:
    try:
        names = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
        quota, period = ((group / name).read_text().strip() for name in names)
    except OSError:
        return "max", ""
    return quota, period


def family(pid: int | str) -> list[int]:
    """List a process and all below it, parents first.

    Args:
        pid: A process id, or `self`.

    Returns:
        Process ids; none if the process has ended.
    """
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        children = [child for task in tasks for child in (task / "children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [int(tasks[0].name), *(below for child in children for below in family(child))]


def is_running(process: int) -> bool:
    """Tell whether a process of this machine runs."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def end_on_stop() -> None:
    """Let SIGTERM and Ctrl-C end this process with exit code 0, through its `finally` blocks.

    To be called before slow imports: as process 1 of a container, a process that has no handler
    yet ignores SIGTERM, and is killed later. uvicorn finishes the requests in flight and raises the
    signal anew: without a handler that would end the process before its records are written.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))


@contextmanager
def stoppable() -> Iterator[None]:
    """Let SIGTERM and Ctrl-C end the work in an orderly way, so that what is finished is kept.

    Raises:
        Stopped: One of them came.
    """

    def stop(*_: object) -> None:
        # No Exception: a decoder that is at work would take it for damage of the image.
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except KeyboardInterrupt:
        raise Stopped("stopped on request", remedy="run the same command again") from None
    finally:
        signal.signal(signal.SIGTERM, previous)


@contextmanager
def postponed_stop() -> Iterator[Callable[[], bool]]:
    """Take note of SIGTERM and Ctrl-C, for work that chooses where it can stop.

    Yields:
        Tells whether one of them came.
    """
    asked = threading.Event()
    signals = (signal.SIGTERM, signal.SIGINT)
    previous = [signal.signal(number, lambda *_: asked.set()) for number in signals]
    try:
        yield asked.is_set
    finally:
        for number, handler in zip(signals, previous, strict=True):
            signal.signal(number, handler)


def begin_worker() -> None:
    """Begin a process of a pool: its parent decides when it ends.

    Ctrl-C goes to the parent alone; and when the parent is gone, even killed, so is this process,
    which otherwise would wait for work for ever.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_await_parent, daemon=True).start()


def _await_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def free_port() -> int:
    """Find a port of the loopback interface that nobody listens on.

    It is below those of connections that go out, so that none takes it before its server does.

    Returns:
        10000 to 32767.

    Raises:
        InfrastructureError: All that were tried are taken.
    """
    # Not the generator that trainings seed: two processes would be given the same ports.
    for port in random.SystemRandom().sample(_PORTS, 100):
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        return port
    raise InfrastructureError(
        f"100 ports from {_PORTS[0]} to {_PORTS[-1]} were tried and are all taken",
        remedy="see what listens on 127.0.0.1: `ss -ltn`",
    )


def user_name() -> str:
    """Name the user of this process."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # A container's user often has no name.
        return "unknown"
