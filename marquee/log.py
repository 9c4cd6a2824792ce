"""Logs and progress: for people on a terminal, JSON lines in a pod."""

import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

_PROGRESS_SECONDS = 10.0


class _JsonFormatter(logging.Formatter):
    """Writes a record as JSON; `extra={"fields": ...}` of a logger stands for its message."""

    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "severity": record.levelname,
            "logger": record.name,
            **getattr(record, "fields", {"message": record.getMessage()}),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False)


def in_pod() -> bool:
    """Tell whether this process runs in a Kubernetes pod."""
    return "KUBERNETES_SERVICE_HOST" in os.environ


def configure(level: str = "INFO") -> None:
    """Send the logs of this process to standard error.

    Args:
        level: The lowest level to show, such as `INFO` or `WARNING`.
    """
    handler: logging.Handler
    if in_pod():
        handler = logging.StreamHandler()
        handler.setFormatter(_JsonFormatter())
    elif sys.stderr.isatty():
        from rich.console import Console
        from rich.logging import RichHandler

        handler = RichHandler(console=Console(stderr=True), show_path=False, show_level=False)
        handler.setFormatter(logging.Formatter("%(message)s", datefmt="%H:%M:%S"))
    else:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    for room in ("marquee", "components", "pipelines", "serving", "monitoring"):
        logging.getLogger(room).setLevel(level)


@contextmanager
def progress(description: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Show how far long work has come: a bar on a terminal, a line now and then elsewhere.

    Args:
        description: What is being done, such as `ingest`.
        total: How many steps there are, if known.

    Yields:
        A function to call with the number of steps just done.
    """
    if sys.stderr.isatty() and not in_pod():
        yield from _bar(description, total)
    else:
        yield from _lines(description, total)


def _bar(description: str, total: int | None) -> Iterator[Callable[[int], None]]:
    from rich import progress as rich_progress
    from rich.console import Console

    columns = (
        rich_progress.TextColumn("{task.description}"),
        rich_progress.BarColumn(),
        rich_progress.MofNCompleteColumn(),
        rich_progress.TextColumn("{task.fields[rate]}"),
        rich_progress.TimeRemainingColumn(),
    )
    with rich_progress.Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(description, total=total, rate="")

        def advance(steps: int) -> None:
            bar.advance(task, steps)
            speed = bar.tasks[0].speed
            bar.update(task, rate=f"{speed:.1f}/s" if speed else "")

        yield advance


def _lines(description: str, total: int | None) -> Iterator[Callable[[int], None]]:
    logger = logging.getLogger(__name__)
    start = last = time.monotonic()
    done = 0

    def advance(steps: int) -> None:
        nonlocal done, last
        done += steps
        now = time.monotonic()
        if now - last >= _PROGRESS_SECONDS:
            last = now
            logger.info("%s", _progress_line(description, done, total, now - start))

    yield advance


def _progress_line(description: str, done: int, total: int | None, seconds: float) -> str:
    rate = done / seconds
    if total is None or not rate:
        return f"{description}: {done:,} done, {rate:.1f}/s"
    left = (total - done) / rate
    return f"{description}: {done:,} of {total:,}, {rate:.1f}/s, {left:.0f} s left"
