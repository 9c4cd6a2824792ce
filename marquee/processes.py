"""The processes below this one."""

from pathlib import Path


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
