"""Which of a run's models goes on, and what the champion has to say to it."""

import json
from pathlib import Path

import numpy as np
import pytest
from bundles import CELLS, cells_of, tiny_bundle

from components.evaluate.gate import choose
from components.evaluate.gate_component import gate
from marquee.bundle import load
from marquee.catalog import Catalog
from marquee.errors import UsageError
from marquee.genres import label_columns, label_matrix, label_set
from marquee.images import Preprocessing, preprocess
from marquee.registry import Stage
from marquee.registry.files import FileRegistry
from marquee.run_layout import RunLayout
from marquee.verdict import Outcome

COLUMNS = ("film_id", "shard_offset", "size")


@pytest.fixture
def layout(tmp_path, drawn_catalog, wide_split):
    """A run whose catalog and split plan are there."""
    run = tmp_path / "run"
    run.mkdir()
    (run / "catalog").symlink_to(drawn_catalog)
    (run / "balance").symlink_to(wide_split)
    return RunLayout(str(run))


@pytest.fixture
def register(layout, make_bundle):
    """Register a bundle; give its version."""

    def register(**info):
        evaluation = {"version": load(uri := make_bundle(**info)).version, "metrics": {}}
        return FileRegistry(layout.registry).register(uri, evaluation).version

    return register


def test_the_one_that_validated_best_is_the_challenger(layout, register):
    versions = [
        register(seed=seed, validation={"macro_map": score})
        for seed, score in ((1, 0.3), (2, 0.5), (3, 0.4))
    ]
    chosen, contest = choose(layout, "", ["", *versions], {})
    assert (chosen, contest.verdict.outcome) == (versions[1], Outcome.PASSED)
    assert "there is none yet" in str(contest.verdict.checks)


def test_without_any_model_there_is_nothing_to_judge(layout):
    with pytest.raises(UsageError, match="no architecture was trained"):
        choose(layout, "", ["", ""], {})


def test_the_champion_is_not_held_against_itself(layout, register):
    version = register(validation={"macro_map": 0.3})
    FileRegistry(layout.registry).move(version, Stage.CHAMPION, "the first")
    chosen, contest = choose(layout, "", [version], {})
    assert (chosen, contest.verdict.outcome) == (version, Outcome.PASSED)


def test_another_label_sets_champion_is_none_of_its_business(layout, register, tmp_path):
    other = tiny_bundle(tmp_path / "other", label_set="all18")
    registry = FileRegistry(layout.registry)
    evaluation = {"version": other.version, "metrics": {}}
    registry.move(registry.register(str(other.folder), evaluation).version, Stage.CHAMPION, "x")
    _, contest = choose(layout, "", [register(validation={"macro_map": 0.3})], {})
    assert contest.verdict.outcome is Outcome.PASSED


def test_the_step_leaves_its_verdict_and_fails_with_its_exit_code(layout, register, tmp_path):
    champion = register(seed=1, validation={"macro_map": 0.3})
    FileRegistry(layout.registry).move(champion, Stage.CHAMPION, "the first")
    challenger = register(seed=2, validation={"macro_map": 0.4})

    class Page:
        path = str(tmp_path / "page.html")

    with pytest.raises(SystemExit) as ended:
        gate(layout.uri, "", challenger, "", {"gate.min_posters": 20}, Page)
    (verdict,) = layout.verdicts()
    assert ended.value.code == {Outcome.FAILED: 4, Outcome.INCONCLUSIVE: 8}[verdict.outcome]
    assert f"{challenger[:12]} beside {champion[:12]}" == verdict.subject
    assert "macro mAP" in Path(Page.path).read_text()
    failure = json.loads(Path(layout.uri, "failure.json").read_text())
    assert failure["step"] == "gate"
    entry = FileRegistry(layout.registry).get(challenger)
    assert entry.stage is Stage.CANDIDATE


@pytest.fixture(scope="module")
def knowledge(drawn_catalog):
    """Weights of a head that has learnt every poster by heart, as far as colours tell."""
    genres, catalog = label_set("study4"), Catalog(drawn_catalog)
    frame = catalog.frame([*COLUMNS, *label_columns(genres)])
    frame = frame.sort_values(["part", "shard_offset"])
    size = Preprocessing(height=24, width=16)
    images = [preprocess(image, size) for _, image in catalog.stream_images(frame)]
    cells = cells_of(np.stack(images)).reshape(len(images), -1)
    labels = label_matrix(frame, genres) - label_matrix(frame, genres).mean(axis=0)
    learnt = np.linalg.lstsq(cells, labels, rcond=None)[0]
    return (20 * learnt.T).reshape(len(genres), 3, *CELLS).astype(np.float32)


@pytest.mark.parametrize(("sign", "outcome"), [(1, Outcome.FAILED), (-1, Outcome.PASSED)])
def test_whoever_knows_more_wins(layout, register, knowledge, sign, outcome):
    """The champion knows the posters and the challenger the contrary, or the other way round."""
    champion = register(head=sign * knowledge, validation={"macro_map": 0.3})
    FileRegistry(layout.registry).move(champion, Stage.CHAMPION, "the first")
    challenger = register(head=-sign * knowledge, validation={"macro_map": 0.4})
    chosen, contest = choose(layout, "", [challenger], {"gate.calibration_loss": 1.0})
    assert chosen == challenger
    assert contest.verdict.outcome is outcome, contest.verdict.sentence()
    (score,) = (check for check in contest.verdict.checks if check.name == "macro mAP")
    assert score.outcome is outcome


def test_posters_that_trained_the_champion_do_not_count(layout, register, drawn_catalog):
    frame = Catalog(drawn_catalog).frame(["film_id"])
    champion = register(seed=1, trained_on=list(frame["poster_id"]), validation={"macro_map": 0.3})
    FileRegistry(layout.registry).move(champion, Stage.CHAMPION, "the first")
    _, contest = choose(layout, "", [register(seed=2, validation={"macro_map": 0.4})], {})
    assert contest.verdict.outcome is Outcome.INCONCLUSIVE
    assert "that the champion does not know: 0" in contest.verdict.sentence()
