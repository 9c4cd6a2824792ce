"""The scoring pipeline, run on this machine through KFP's local runner."""

import json

import pytest
from bundles import tiny_bundle
from helpers import encode, noise_poster, row, write_folder

from components.ingest.ingest import ingest
from components.ingest.sources.folder import FolderSource
from components.score.score import score
from marquee.licences import TMDB
from marquee.settings import Settings
from marquee.step import StepFailed
from pipelines.local import run_locally
from pipelines.scoring import scoring


def make_catalog(folder, **changes):
    names = [f"f{number}" for number in range(5)]
    images = {f"{name}.jpg": encode(noise_poster(number)) for number, name in enumerate(names)}
    write_folder(folder / "posters", [row(name, **changes) for name in names], images)
    ingest(FolderSource(str(folder / "posters")), str(folder / "catalog"), 2)
    return str(folder / "catalog")


def test_it_gives_what_the_command_gives(tmp_path):
    terms = {"source": "tmdb", "licence": TMDB, "expires_at": "2931-01-01"}
    catalog, bundle = make_catalog(tmp_path, **terms), tiny_bundle(tmp_path / "bundle")
    arguments = {
        "run_uri": str(tmp_path / "run"),
        "catalog_uri": catalog,
        "bundle_uri": str(bundle.folder),
        "overrides": {"licence.tmdb_agreement": "2026-17"},
    }
    run_locally(scoring, arguments, tmp_path / "run")
    labels = tmp_path / "labels.parquet"
    settings = Settings.from_dict({"licence": {"tmdb_agreement": "2026-17"}})
    report = score(catalog, str(bundle.folder), str(labels), settings)
    name = f"{report.model_version[:12]}-{report.catalog_digest[:12]}.parquet"
    assert [path.name for path in (tmp_path / "run/score").iterdir()] == [name]
    assert (tmp_path / "run/score" / name).read_bytes() == labels.read_bytes()
    (metrics,) = (tmp_path / "run/kfp").rglob("executor_output.json")
    found = json.loads(metrics.read_text())["artifacts"]["metrics"]["artifacts"][0]["metadata"]
    assert found == report.scalars()


def test_it_fails_with_the_steps_reason_and_exit_code(tmp_path):
    catalog = make_catalog(tmp_path, licence=TMDB, expires_at="2931-01-01")
    bundle = tiny_bundle(tmp_path / "bundle")
    arguments = {
        "run_uri": str(tmp_path / "run"),
        "catalog_uri": catalog,
        "bundle_uri": str(bundle.folder),
        "out_uri": str(tmp_path / "labels.parquet"),
    }
    with pytest.raises(StepFailed, match="score: 5 posters: TMDB's terms") as caught:
        run_locally(scoring, arguments, tmp_path / "run")
    assert caught.value.exit_code == 3
