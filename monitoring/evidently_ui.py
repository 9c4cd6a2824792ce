"""Evidently's UI over the workspace that the drift reports have filled.

The UI finds new windows, but lists its projects only when it starts, and a model's first report
makes one. So it runs in a process of its own, which is started again when there are others.
"""

import subprocess
import sys
import time
from collections.abc import Callable

from marquee import storage
from marquee.errors import InfrastructureError
from marquee.processes import postponed_stop
from monitoring.archive import WORKSPACE, reports_folder

_LOOK_EVERY_S, _STEP_S = 20.0, 0.2
_COMMAND = (sys.executable, "-m", "monitoring.evidently_ui")


def serve_workspace(out: str, host: str, port: int) -> None:
    """Serve the UI until the process is asked to stop.

    Args:
        out: The folder of all reports, or of all monitoring runs; there need not be any yet.
        host: The address to listen on.
        port: The port to listen on.

    Raises:
        InfrastructureError: The UI ended by itself.
    """
    with postponed_stop() as asked_to_stop:
        while not asked_to_stop():
            projects = _projects(out)
            ui = subprocess.Popen([*_COMMAND, workspace_of(out), host, str(port)])
            try:
                _watch(ui, out, projects, asked_to_stop)
            finally:
                ui.terminate()
                ui.wait()


def _watch(
    ui: "subprocess.Popen[bytes]", out: str, projects: list[str], asked_to_stop: Callable[[], bool]
) -> None:
    """Return when the UI has to begin anew, or to end."""
    looked = time.monotonic()
    while not asked_to_stop():
        if ui.poll() is not None:
            raise InfrastructureError(
                f"Evidently's UI ended with {ui.returncode}", remedy="see its log above"
            )
        if time.monotonic() - looked > _LOOK_EVERY_S:
            if _projects(out) != projects:
                return
            looked = time.monotonic()
        time.sleep(_STEP_S)


def _projects(out: str) -> list[str]:
    """List the projects that there are."""
    return storage.list_folders(workspace_of(out))


def workspace_of(out: str) -> str:
    """Give the workspace of the reports.

    Args:
        out: The folder of all reports, or of all monitoring runs.
    """
    return storage.join(reports_folder(out), WORKSPACE)


def _run(uri: str, host: str, port: int) -> None:
    from evidently.ui.service.app import run_local

    import monitoring.evidently_report  # noqa: F401  # the UI reads runs with our metric in them

    run_local(host=host, port=port, workspace=uri)


if __name__ == "__main__":
    _run(sys.argv[1], sys.argv[2], int(sys.argv[3]))
