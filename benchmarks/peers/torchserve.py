"""TorchServe with batching; JPEG files as they are, its natural input. It needs Java."""

import json
import os
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.peers.model import BATCH, BATCH_SECONDS, PORT, PosterModel
from benchmarks.running import ROOT
from marquee.processes import free_port

_model = cache(PosterModel)

_LOG = """
<Configuration>
  <Appenders><Console name="console"/></Appenders>
  <Loggers><Root level="warn"><AppenderRef ref="console"/></Root></Loggers>
</Configuration>
"""


def handle(data: list[dict[str, Any]] | None, context: Any) -> list[dict[str, float]]:
    """Answer a batch; without data, get ready."""
    model = _model()
    return model.predict([model.read(item["body"]) for item in data]) if data else []


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="torchserve-"))
    model = folder / "store/poster"
    (model / "MAR-INF").mkdir(parents=True)
    (model / "handler.py").write_text("from benchmarks.peers.torchserve import handle\n")
    archive = {"modelName": "poster", "modelVersion": "1.0", "handler": "handler.py:handle"}
    manifest = {"runtime": "python", "model": archive, "archiverVersion": "0.12.0"}
    (model / "MAR-INF/MANIFEST.json").write_text(json.dumps(manifest))
    settings = {
        "defaultVersion": True,
        "marName": "poster",
        "minWorkers": 1,
        "maxWorkers": 1,
        "batchSize": BATCH,
        "maxBatchDelay": round(BATCH_SECONDS * 1000),
    }
    addresses = ("inference_address", "management_address", "metrics_address")
    ports = (PORT, free_port(), free_port())
    properties = {
        **{name: f"http://127.0.0.1:{port}" for name, port in zip(addresses, ports, strict=True)},
        "load_models": "poster",
        "models": json.dumps({"poster": {"1.0": settings}}),
    }
    config, log = folder / "config.properties", folder / "log.xml"
    config.write_text("".join(f"{name}={value}\n" for name, value in properties.items()))
    log.write_text(_LOG)
    command = [str(Path(sys.executable).with_name("torchserve")), "--start", "--foreground"]
    command += ["--ncs", "--disable-token-auth", "--model-store", str(folder / "store")]
    os.environ |= {"PYTHONPATH": str(ROOT), "TEMP": str(folder), "TMPDIR": str(folder)}
    os.chdir(folder)
    os.execv(command[0], [*command, "--ts-config", str(config), "--log-config", str(log)])


if __name__ == "__main__":
    main()
