"""`marquee demo`, the way a newcomer meets Marquee."""

import json
import subprocess
import sys

import pytest


@pytest.mark.slow
def test_the_demo_succeeds_again_and_again(tmp_path):
    command = [sys.executable, "-m", "marquee", "demo", "--films", "300", "--out"]
    for _ in range(2):
        result = subprocess.run(
            [*command, str(tmp_path / "demo")], capture_output=True, text=True, timeout=300
        )
        assert result.returncode == 0, result.stdout + result.stderr
        assert "poster-genre:predict" in result.stdout
        assert "plumbing only" in result.stdout
    summary = json.loads((tmp_path / "demo/summary.json").read_text())
    assert set(summary["architectures"]) == {"custom_cnn", "vgg16"}
    assert list((tmp_path / "demo/records").rglob("*.parquet"))
