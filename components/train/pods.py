"""What every TrainJob of ours says of its pods."""

from collections.abc import Iterable
from typing import Any

from marquee import storage
from marquee.errors import UsageError

Document = dict[str, Any]

NODE = "node"
"""What Kubeflow Trainer calls the job of a runtime that trains, and the container in it."""


def runtime_patch(manager: str, pod: Document) -> Document:
    """Build a patch of what a runtime says of its pods.

    Args:
        manager: Who patches it.
        pod: What is to be laid over the pod's specification.
    """
    job = {"name": NODE, "template": {"spec": {"template": {"spec": pod}}}}
    return {
        "manager": manager,
        "trainingRuntimeSpec": {"template": {"spec": {"replicatedJobs": [job]}}},
    }


def check_seen(uris: Iterable[str], folders: Iterable[str], remedy: str) -> None:
    """Check that pods see what lies at URIs.

    Args:
        uris: All that they read and write.
        folders: Where volumes are mounted.
        remedy: What to do if they do not.

    Raises:
        UsageError: One is on this machine's disk and on no volume.
    """
    mounts = list(folders)
    for uri in uris:
        if storage.is_local(uri) and not any(
            storage.local_path(uri).is_relative_to(mount) for mount in mounts
        ):
            raise UsageError(
                f"{uri} is on this machine's disk, which the pods of a TrainJob do not see",
                remedy=remedy,
            )
