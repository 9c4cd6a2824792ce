"""A step as Kubeflow's launcher starts it: by the package's command, inputs and outputs as JSON."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from helpers import ROOT

OUTPUT_FILE = "/tmp/kfp_outputs/output_metadata.json"
"""Where the launcher (kubeflow/pipelines, backend/src/v2/component/launcher_v2.go) expects it."""
ARTIFACTS = "/minio"
"""Where it mounts what is kept at minio://; an artifact's path is made of its URI."""


@dataclass(frozen=True)
class KfpStep:
    """A task of a compiled package, such as `ingest`."""

    image: str
    command: list[str]
    outputs: dict[str, Any]

    def words(self, **inputs: object) -> list[str]:
        """The words of the container's process, for these inputs."""
        given = {"inputs": {"parameterValues": inputs}, "outputs": self.outputs}
        return [word.replace("{{$}}", json.dumps(given)) for word in self.command]


def kfp_step(package: str, name: str) -> KfpStep:
    """Read a task from the packages in git.

    Args:
        package: The pipeline's name.
        name: The task's.
    """
    path = ROOT / f"pipelines/compiled/{package}.yaml"
    spec = next(yaml.safe_load_all(path.read_text()))
    container = spec["deploymentSpec"]["executors"][f"exec-{name}"]["container"]
    outputs = spec["components"][f"comp-{name}"].get("outputDefinitions", {})
    artifacts = {
        artifact: {
            "artifacts": [
                {
                    "name": artifact,
                    "type": definition["artifactType"],
                    "uri": f"minio://bucket/{name}/{artifact}",
                }
            ]
        }
        for artifact, definition in outputs.get("artifacts", {}).items()
    }
    parameters = {
        parameter: {"outputFile": f"/tmp/kfp/outputs/{parameter}"}
        for parameter in outputs.get("parameters", {})
    }
    return KfpStep(
        image=container["image"].partition(":")[0].rpartition("-")[2],
        command=[*container["command"], *container["args"]],
        outputs={"artifacts": artifacts, "parameters": parameters, "outputFile": OUTPUT_FILE},
    )


def output_of(tmp: Path) -> Any:
    """What a step gave, from the folder that it had at /tmp."""
    document = json.loads((tmp / Path(OUTPUT_FILE).relative_to("/tmp")).read_text())
    return document["parameterValues"]["Output"]
