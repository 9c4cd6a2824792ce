"""Every expectation of the data gate, each with a fixture that trips it and no other critical."""

import csv
import io
import json
import re
import tomllib
from datetime import timedelta
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from frames import BOUNDS, NOW, SETTINGS, put, sound_frame
from helpers import ROOT, encode, noise_poster, row, write_folder

from components.ingest.ingest import ingest
from components.ingest.sources.folder import FolderSource
from components.validate import component
from components.validate.expectations import SCHEMA, themes
from components.validate.tables import COLUMNS
from components.validate.validate import judge, validate
from marquee import storage
from marquee.errors import DataGateFailed
from marquee.genres import VISUAL_GENRES
from marquee.settings import LicenceSettings, Settings, ValidateSettings
from marquee.verdict import Severity, Verdict

RULES = {
    rule.name: rule for of_theme in (SCHEMA | themes(BOUNDS, NOW)).values() for rule in of_theme
}


def moments(name, when):
    def corrupt(frame):
        cells = [when] * 2 + frame[name].tolist()[2:]
        return frame.assign(**{name: pd.to_datetime(pd.Series(cells), utc=True)})

    return corrupt


def without(genre):
    def corrupt(frame):
        kept = [list(set(names) - {genre}) or ["Comedy"] for names in frame["genres"]]
        return frame.assign(genres=kept)

    return corrupt


def one_bit_off(frame):
    flipped = f"{int(frame['perceptual_hash'][0], 16) ^ 1:016x}"
    return put(1, perceptual_hash=flipped)(
        frame.iloc[[1, 0, *range(2, 144)]].reset_index(drop=True)
    )


def disputed(frame):
    return frame.assign(
        agreement=[{name: "tmdb_only"} if name == "War" else {} for (name,) in frame["genres"]]
    )


CORRUPTED = {
    "columns of the wrong type": put(year="nineteen"),
    "repeated poster ids": put(poster_id="p9"),
    "posters without a film": put(film_id=None),
    "films with the same IMDb or TMDB id": put(tmdb_id=7.0),
    "number of posters": lambda frame: frame.head(10),
    "share of rows in quarantine": lambda frame: frame,
    "implausible years": put(year=1492),
    "posters without a year": put(50, year=None),
    "sparse eras": lambda frame: frame.assign(era=frame["era"].replace("silent", "current")),
    "stale rows": moments("retrieved_at", NOW - timedelta(days=400)),
    "rows about to expire": moments("expires_at", NOW + timedelta(days=10)),
    "unknown genres": put(genres=np.array(["Comedy", "Sci-Fi"], dtype=object)),
    "posters without a genre": put(genres=np.array([], dtype=object)),
    "posters with many genres": put(genres=np.array(VISUAL_GENRES[:9], dtype=object)),
    "label cardinality": put(144, genres=np.array(VISUAL_GENRES[:5], dtype=object)),
    "rare genres": without("War"),
    "disputed labels": disputed,
    "malformed image hashes": put(1, sha256="abc"),
    "unmeasured images": put(brightness=None),
    "images too small": put(width=20, height=30),
    "images too large": put(width=10_000, height=12_000),
    "low resolution": put(30, width=150, height=225),
    "odd aspect ratios": put(10, width=600),
    "unusual pixel modes": put(30, mode="L"),
    "blank posters": put(10, contrast=0.0),
    "near-blank posters": put(10, contrast=0.02),
    "one picture for many films": put(10, perceptual_hash="8f" * 8),
    "placeholder posters": put(5, perceptual_hash="8f" * 8),
    "exact duplicates": put(sha256="ab" * 32),
    "near duplicates": one_bit_off,
    "source bias in genres": lambda frame: frame.assign(
        source=["one" if name == "War" else "two" for (name,) in frame["genres"]]
    ),
    "source bias in resolution": lambda frame: frame.assign(
        width=np.where(frame["source"] == "one", 240, 480),
        height=np.where(frame["source"] == "one", 360, 720),
    ),
    "posters without a licence": put(licence=""),
    "terms that forbid training": put(licence="TMDB API Terms of Use"),
    "unstated licences": put(licence="unspecified"),
}
QUARANTINED = {"share of rows in quarantine": 36}


def judged(corrupt=lambda frame: frame, quarantined=0, settings=SETTINGS):
    return judge(corrupt(sound_frame()), settings, quarantined)


@cache
def tripped(name):
    return judged(CORRUPTED[name], QUARANTINED.get(name, 0))


def broken(validation, *severities):
    return {
        check.name: check
        for severity in severities or Severity
        for check in validation.verdict.broken(severity)
    }


@pytest.fixture(scope="module")
def sound():
    return judged()


def test_a_sound_catalog_holds_in_every_respect(sound):
    assert broken(sound) == {}
    sound.verdict.raise_unless_passed()


def test_every_expectation_has_a_fixture(sound):
    assert list(RULES) == [check.name for check in sound.verdict.checks]
    assert set(CORRUPTED) == set(RULES)


@pytest.mark.parametrize("name", CORRUPTED)
def test_each_expectation_trips_and_no_other_critical_one(name):
    found = tripped(name)
    check = broken(found)[name]
    assert check.remedy == RULES[name].remedy or name == "terms that forbid training"
    assert "could not be judged" not in check.measured
    critical = set(broken(found, Severity.CRITICAL))
    if check.severity is Severity.CRITICAL:
        assert critical == {name}
        with pytest.raises(DataGateFailed, match=name) as caught:
            found.verdict.raise_unless_passed()
        assert caught.value.exit_code == 3
        assert caught.value.remedy == check.remedy
    else:
        assert critical == set()
        found.verdict.raise_unless_passed()
        assert name in found.verdict.sentence()


@pytest.mark.parametrize(
    ("name", "measured", "blame"),
    [
        ("columns of the wrong type", "year Could not convert 'nineteen'", ("year",)),
        ("implausible years", "2 of 144 (1.4%): 1492", ("p0", "p1")),
        ("unknown genres", "2 of 144 (1.4%): Sci-Fi", ("p0", "p1")),
        ("unmeasured images", "2 of 144 (1.4%): brightness", ("p0", "p1")),
        ("sparse eras", "silent 0", ("silent",)),
        ("disputed labels", "War 0%", ("War",)),
        ("near duplicates", "2 of 144 (1.4%)", ("p1", "p0")),
        ("number of posters", "10", ()),
        ("share of rows in quarantine", "20%", ()),
    ],
)
def test_the_check_says_what_was_found_and_where(name, measured, blame):
    check = broken(tripped(name))[name]
    assert check.measured.startswith(measured)
    assert (check.blame, check.blamed) == (blame, len(blame))


def test_bounds_are_inclusive_and_come_from_the_settings():
    corrupt = put(14, contrast=0.0)
    tight, loose = (
        Settings(validate=ValidateSettings(min_posters=20, max_blank_share=share))
        for share in (13 / 144, 14 / 144)
    )
    assert "blank posters" in broken(judged(corrupt, settings=tight))
    assert "blank posters" not in broken(judged(corrupt, settings=loose))


@pytest.mark.parametrize(
    ("corrupt", "words", "settings"),
    [
        (put(licence="TMDB API Terms of Use"), ("TMDB's terms", "licence.tmdb_agreement"), {}),
        (
            put(label_licences={"imdb": "IMDb Non-Commercial Datasets"}),
            ("IMDb gives its datasets", "licence.imdb_agreement"),
            {"tmdb_agreement": "contract 7"},
        ),
        (moments("expires_at", NOW - timedelta(days=1)), ("have expired", "purge"), {}),
    ],
    ids=["tmdb", "imdb", "expired"],
)
def test_terms_and_expiry_stop_the_pipeline(corrupt, words, settings):
    found = judged(corrupt, settings=Settings(validate=BOUNDS, licence=LicenceSettings(**settings)))
    assert set(broken(found, Severity.CRITICAL)) == {"terms that forbid training"}
    check = broken(found)["terms that forbid training"]
    assert words[0] in check.measured
    assert words[1] in check.remedy


def test_an_agreement_opens_the_gate_and_the_attribution_stays():
    agreed = Settings(validate=BOUNDS, licence=LicenceSettings(tmdb_agreement="contract 7"))
    found = judged(put(licence="TMDB API Terms of Use"), settings=agreed)
    assert broken(found, Severity.CRITICAL) == {}
    assert "endorsed" in found.attributions[0]


def test_parts_of_an_older_schema_lack_columns_and_pass():
    young = {"mode": None, "agreement": None, "label_licences": None}
    found = judged(lambda frame: frame.assign(**young))
    assert broken(found) == {}


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"film_id": " "}, "posters without a film"),
        ({"licence": None}, "posters without a licence"),
        ({"width": None}, "unmeasured images"),
        ({"perceptual_hash": None}, "unmeasured images"),
        ({"saturation": 1.5}, "unmeasured images"),
        ({"year": 2100}, "implausible years"),
    ],
    ids=str,
)
def test_other_ways_to_break_a_critical_expectation(values, name):
    assert set(broken(judged(put(**values)), Severity.CRITICAL)) == {name}


def test_a_single_source_has_no_bias():
    assert broken(judged(lambda frame: frame.assign(source="one"))) == {}


def test_an_empty_catalog_is_judged_not_crashed():
    found = judge(pd.DataFrame(columns=list(COLUMNS)), SETTINGS)
    assert set(broken(found, Severity.CRITICAL)) == {"number of posters"}


def _catalog(tmp_path, sound, broken=0):
    rows = [row(f"g{number}") for number in range(sound)]
    rows += [row(f"b{number}") for number in range(broken)]
    images = {f"g{number}.jpg": encode(noise_poster(number)) for number in range(sound)}
    folder = write_folder(tmp_path / "in", rows, images)
    uri = str(tmp_path / "run/catalog")
    ingest(FolderSource(str(folder)), uri)
    return uri


def test_images_are_not_read_again(tmp_path):
    uri = _catalog(tmp_path, sound=20)
    for shard in (tmp_path / "run").rglob("shard.tar"):
        shard.unlink()
    validate(uri, SETTINGS).verdict.raise_unless_passed()


@pytest.fixture(scope="module")
def failed():
    """A catalog with a critical and a warning, each on more rows than a verdict names."""
    return judged(lambda frame: put(120, year=1492)(put(130, mode="L")(frame)))


def test_the_verdict_names_some_rows_and_the_csv_all(failed, tmp_path):
    failed.write(str(tmp_path))
    verdict = Verdict.from_json((tmp_path / "verdict.json").read_text(), "here")
    assert verdict == failed.verdict
    check = next(check for check in verdict.checks if check.name == "implausible years")
    assert (len(check.blame), check.blamed) == (100, 120)
    rows = list(csv.DictReader(io.StringIO((tmp_path / "failures.csv").read_text())))
    years = [entry for entry in rows if entry["check"] == "implausible years"]
    assert [entry["row"] for entry in years] == [f"p{number}" for number in range(120)]
    assert {(entry["severity"], entry["value"]) for entry in years} == {("critical", "1492")}


def test_the_data_docs_show_every_expectation_and_its_result(failed, tmp_path):
    failed.write(str(tmp_path))
    failed.write(str(tmp_path))  # a second run replaces the site
    docs = tmp_path / "data_docs"
    pages = "".join(page.read_text() for page in docs.glob("validations/**/*.html"))
    for name, rule in RULES.items():
        assert f"{name}: " in pages
        assert f"({rule.severity})" in pages
    assert "83.33" in pages  # 120 of 144 years
    assert "posters" in (docs / "index.html").read_text()
    assert {path.name for path in tmp_path.iterdir()} == {
        "data_docs",
        "failures.csv",
        "verdict.json",
    }


def test_everything_can_be_written_to_a_bucket(sound, bucket):
    sound.write(f"{bucket}/run/validate")
    files = storage.list_files(f"{bucket}/run/validate")
    assert {"verdict.json", "failures.csv", "data_docs/index.html"} <= set(files)


class _Report:
    def __init__(self, path):
        self.path = str(path)


def _run_step(tmp_path, overrides):
    return component.validate(
        str(tmp_path / "run"), "digest", overrides, _Report(tmp_path / "artifact.html")
    )


def test_the_step_writes_page_verdict_and_docs_that_are_linked(tmp_path):
    _catalog(tmp_path, sound=20)
    assert _run_step(tmp_path, {"validate.min_posters": 20}) == "passed"
    page = tmp_path / "run/reports/validate.html"
    assert (tmp_path / "artifact.html").read_text() == page.read_text()
    links = re.findall(r'href="(.+?)"', page.read_text())
    assert {"../validate/data_docs/index.html", "../validate/failures.csv"} <= set(links)
    assert sum("data_docs/validations/" in link for link in links) == 6
    for link in links:
        assert (page.parent / link).is_file()


def test_a_failed_gate_ends_the_step_with_its_exit_code(tmp_path):
    _catalog(tmp_path, sound=20, broken=5)
    with pytest.raises(SystemExit) as caught:
        _run_step(tmp_path, {"validate.min_posters": 20})
    assert caught.value.code == 3
    failure = json.loads((tmp_path / "run/failure.json").read_text())
    assert "share of rows in quarantine: 20%" in failure["message"]
    assert "quarantine.jsonl" in failure["remedy"]
    assert (tmp_path / "run/reports/validate.html").is_file()


def test_the_documentation_lists_every_expectation():
    text = Path(ROOT / "docs/validation.md").read_text()
    for name, rule in RULES.items():
        assert f"| {name} | {rule.severity} |" in text


def test_the_documentation_gives_every_bound_and_its_default():
    toml = (ROOT / "docs/settings.md").read_text().partition("```toml")[2].partition("```")[0]
    assert tomllib.loads(toml)["validate"] == vars(ValidateSettings())
