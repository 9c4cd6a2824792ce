"""Evidently's UI over the workspace that the drift reports have filled."""

from evidently.ui.service.app import run_local

import monitoring.evidently_report  # noqa: F401  # the UI reads runs with our metric in them


def serve_workspace(uri: str, host: str, port: int) -> None:
    """Serve the UI until the process is stopped.

    Args:
        uri: The workspace's folder.
        host: The address to listen on.
        port: The port to listen on.
    """
    run_local(host=host, port=port, workspace=uri)
