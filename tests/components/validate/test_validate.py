"""Every expectation of the data gate, with a fixture that trips it."""

import numpy as np
import pandas as pd
import pytest
from helpers import encode, noise_poster, row, write_folder

from components.ingest.ingest import ingest
from components.ingest.sources.folder import FolderSource
from components.validate.validate import check_frame, validate
from marquee.errors import DataGateFailed
from marquee.settings import ValidateSettings
from marquee.verdict import Outcome, Verdict

SETTINGS = ValidateSettings(min_posters=20)


def sound_frame(count=40):
    return pd.DataFrame(
        {
            "poster_id": [f"p{number}" for number in range(count)],
            "film_id": [f"f{number}" for number in range(count)],
            "title": "A film",
            "year": pd.array([1990 + number % 30 for number in range(count)], dtype="Int16"),
            "genres": [np.array(["Comedy"], dtype=object)] * count,
            "licence": "CC0-1.0",
            "sha256": "ab" * 32,
            "width": 200,
            "height": 300,
            "contrast": 0.3,
        }
    )


def failures(frame, settings=SETTINGS):
    return {
        check.name: check for check in check_frame(frame, settings) if check.outcome != "passed"
    }


def test_a_sound_catalog_passes():
    assert failures(sound_frame()) == {}


def _set(column, value, rows=slice(0, 2)):
    def corrupt(frame):
        values = frame[column].astype(object).tolist()
        for index in range(*rows.indices(len(frame))):
            values[index] = value
        return frame.assign(**{column: pd.Series(values, dtype=object)})

    return corrupt


CORRUPTED = {
    "number of posters": lambda frame: frame.head(10),
    "poster ids are unique": _set("poster_id", "p9"),
    "every poster has a film": _set("film_id", None),
    "every poster has a licence": _set("licence", None),
    "image hashes are sha256": _set("sha256", "abc"),
    "every poster has 1 to 19 genres": _set("genres", np.array([], dtype=object)),
    "years are known": _set("year", None, slice(0, 20)),
    "years are release years": _set("year", 1492),
    "posters are large enough": _set("width", 8),
    "posters are small enough": _set("height", 1_000_000),
    "posters are not blank": _set("contrast", 0.0, slice(0, 5)),
}


@pytest.mark.parametrize("name", CORRUPTED)
def test_each_expectation_can_fail(name):
    found = failures(CORRUPTED[name](sound_frame()))
    assert set(found) == {name}
    assert found[name].remedy


def test_every_expectation_has_a_fixture():
    assert {check.name for check in check_frame(sound_frame(), SETTINGS)} == set(CORRUPTED)


def test_the_offending_posters_are_blamed():
    assert failures(_set("year", 1492)(sound_frame()))["years are release years"].blame == (
        "p0",
        "p1",
    )


def _catalog(tmp_path, sound, broken):
    rows = [row(f"g{number}") for number in range(sound)]
    rows += [row(f"b{number}") for number in range(broken)]
    images = {f"g{number}.jpg": encode(noise_poster(number)) for number in range(sound)}
    folder = write_folder(tmp_path / "in", rows, images)
    ingest(FolderSource(str(folder)), str(tmp_path / "catalog"))
    return str(tmp_path / "catalog")


def test_too_much_quarantine_fails_the_gate(tmp_path):
    verdict = validate(_catalog(tmp_path, sound=20, broken=5), SETTINGS)
    assert [check.name for check in verdict.checks if check.outcome is Outcome.FAILED] == [
        "share of rows in quarantine"
    ]
    with pytest.raises(DataGateFailed, match=r"share of rows in quarantine: 20\.0%") as caught:
        verdict.raise_unless_passed()
    assert caught.value.exit_code == 3
    assert "quarantine.jsonl" in caught.value.remedy


def test_a_sound_catalog_passes_the_gate(tmp_path):
    verdict = validate(_catalog(tmp_path, sound=20, broken=0), SETTINGS)
    verdict.raise_unless_passed()
    assert Verdict.from_json(verdict.to_json(), "here") == verdict
