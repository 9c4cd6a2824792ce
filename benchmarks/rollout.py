"""How often the judge of a rollout is wrong, and how many users meet a bad model meanwhile.

Run `python -m benchmarks.rollout [--rollouts 200]`. It records a real server under load, then runs
the real state machine and judge over traffic made from that recording, in simulated time: rollouts
of good models, of bad ones of each kind, and of milder defects. It ends with status 1 if a claim
does not hold.
"""

import argparse
import json
import random
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.bundles import make
from benchmarks.load import OK, Phase, drive, predict_request
from benchmarks.results import FILE, Claim, record, record_claims
from benchmarks.running import marquee, running
from benchmarks.simulated_rollout import Defect, Recording, SimulatedBackend, golden, milder
from components.rollout.controller import Controller
from components.rollout.policy import Policy
from components.rollout.state import Model, State, World
from components.rollout.state import Phase as RolloutPhase
from components.rollout.validate import validate
from marquee.bundle import Bundle
from marquee.catalog import Catalog
from marquee.engine import Engine
from marquee.genres import label_columns, label_matrix
from marquee.images import preprocess
from marquee.verdict import Check, Outcome, Verdict

_RATE, _STRETCH, _STRETCHES = 40.0, 10.0, 30
"""Of the recording: requests a second, and stretches of so many seconds."""
_TRAFFIC = 10.0
"""Requests a second of the simulated users."""
_CANARY = Model(version="c" * 64, uri="/canary")
_POSTERS = 240
_SHARES = (0.1, 0.25, 0.5)


def always_drama(said: Mapping[str, float]) -> dict[str, float]:
    """Say Drama, whatever the poster."""
    return dict.fromkeys(said, 0.02) | {"Drama": 0.97}


def shuffled(said: Mapping[str, float]) -> dict[str, float]:
    """Give each genre's probability to another genre, always the same one."""
    names = sorted(said)
    others = random.Random(1).sample(names, len(names))
    return dict(zip(names, (said[other] for other in others), strict=True))


DEFECTS = (
    Defect(name="20% errors", errors=0.2),
    Defect(name="3x latency", slower=3.0),
    Defect(name="always Drama", say=always_drama),
    Defect(name="shuffled labels", say=shuffled),
    Defect(name="corrupt bundle", sound=False),
)


def record_server(bundle: Bundle, catalog: Catalog) -> Recording:
    """Load a real server, and keep its latencies and what it says of labelled posters."""
    genres = bundle.info.genres
    frame = catalog.frame(["shard_offset", "size", *label_columns(genres)]).head(_POSTERS)
    posters = dict(catalog.stream_images(frame.sort_values(["part", "shard_offset"])))
    files = [posters[name] for name in frame["poster_id"]]
    engine, size = Engine(bundle), bundle.info.preprocessing
    said = [engine.predict(preprocess(file, size)[np.newaxis])[0] for file in files]
    labels = [
        frozenset(g for g, owns in zip(genres, row, strict=True) if owns)
        for row in label_matrix(frame, genres)
    ]
    with running(marquee(str(bundle.folder))) as server:
        load = drive(
            server.port,
            [predict_request(file) for file in files],
            Phase(_RATE, _STRETCH * _STRETCHES),
        )
    stretches = [
        np.array(
            [a.latency * 1000 for a in load.due(n * _STRETCH, (n + 1) * _STRETCH) if a.status == OK]
        )
        for n in range(_STRETCHES)
    ]
    return Recording(
        stretches=stretches,
        probabilities=[prediction.probabilities for prediction in said],
        thresholds=dict(zip(genres, bundle.info.thresholds, strict=True)),
        labels=labels,
        corrupt=_corrupt(bundle, bundle.folder.with_name("corrupt")),
    )


@dataclass(frozen=True)
class Ended:
    """How a rollout ended."""

    promoted: bool
    blamed: str
    """The check that failed first; nothing if none did."""
    hours: float
    requests: int
    """All users sent until the rollout ended."""
    exposed: int
    """Those of them that the canary answered."""


def _sound(world: World) -> Verdict:
    """Let a bundle pass that only its name is there of."""
    check = Check(name="sums", outcome=Outcome.PASSED, measured="simulated", bound="sound")
    return Verdict(gate="canary", subject="canary", checks=(check,))


def _corrupt(bundle: Bundle, folder: Path) -> Model:
    """Copy a bundle, and change a byte of its model."""
    shutil.copytree(bundle.folder, folder)
    path = bundle.model_file(bundle.info.precision)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    (folder / path.name).write_bytes(data)
    return Model(version=bundle.version, uri=str(folder))


def roll_out(recording: Recording, defect: Defect, replays: bool, seed: int) -> Ended:
    """Run one rollout in simulated time."""
    backend = SimulatedBackend(recording, defect, rate=_TRAFFIC, seed=seed)
    controller = Controller(
        backend,
        validate=_sound if defect.sound else validate,
        material=lambda _: golden(recording) if replays else [],
        clock=lambda: backend.now,
        timer=lambda: backend.now,
    )
    controller.start(_CANARY if defect.sound else recording.corrupt, Policy())
    state = controller.run()
    return Ended(
        promoted=state.phase is RolloutPhase.PROMOTED,
        blamed=_blamed(state),
        hours=backend.now / 3600,
        requests=backend.requests,
        exposed=backend.exposed,
    )


def _blamed(state: State) -> str:
    checks = state.judged.verdict["checks"] if state.judged and state.judged.verdict else []
    failed = (check["name"] for check in checks if check["outcome"] == Outcome.FAILED)
    return next(failed, "")


def roll_out_many(
    recording: Recording, defects: Sequence[Defect], count: int, replays: bool
) -> list[tuple[Defect, Ended]]:
    """Run rollouts of canaries with these defects in turn, on all CPUs."""
    chosen = [defects[number % len(defects)] for number in range(count)]
    with ProcessPoolExecutor() as pool:
        jobs = [
            pool.submit(roll_out, recording, defect, replays, seed)
            for seed, defect in enumerate(chosen)
        ]
        return [(defect, job.result()) for defect, job in zip(chosen, jobs, strict=True)]


def claims(
    good: Sequence[tuple[Defect, Ended]], bad: Sequence[tuple[Defect, Ended]]
) -> list[Claim]:
    """Hold the judge against what is asked of it.

    Args:
        good: Rollouts of models as good as what is served.
        bad: Rollouts of bad ones.
    """
    wrong = sum(not ended.promoted for _, ended in good) / len(good)
    missed = sum(ended.promoted for _, ended in bad) / len(bad)
    exposure = _exposure([ended for _, ended in bad])
    return [
        Claim("good ones rolled back", f"{wrong:.1%}", "at most 2%", wrong <= 0.02),
        Claim("bad ones promoted", f"{missed:.1%}", "at most 2%", missed <= 0.02),
        Claim("traffic that met a bad one", f"{exposure:.1%}", "at most 6%", exposure <= 0.06),
    ]


def _exposure(rollouts: Sequence[Ended]) -> float:
    """Give the share of all traffic that canaries answered."""
    return sum(ended.exposed for ended in rollouts) / max(sum(e.requests for e in rollouts), 1)


def _row(name: str, ended: Sequence[Ended]) -> list[str]:
    back = [item for item in ended if not item.promoted]
    blamed = sorted({item.blamed or "none" for item in back})
    return [
        name,
        f"{len(back) / len(ended):.1%}",
        f"{_exposure(ended):.1%}",
        f"{median(item.hours for item in ended) * 60:.0f}",
        ", ".join(blamed),
    ]


_COLUMNS = ("canary", "rolled back", "exposure", "minutes, median", "blamed first")


def measure(recording: Recording, count: int, results: Path) -> bool:
    """Roll good, bad and weak canaries out; write what came of it; tell whether all claims hold."""
    command = f"python -m benchmarks.rollout --rollouts {count}"
    holds, rows = True, []
    for replays in (True, False):
        run = partial(roll_out_many, recording, replays=replays)
        good, bad = run([Defect()], count), run(DEFECTS, count)
        words = "posters replayed" if replays else "no replay material"
        rows.append(_row(f"good, {words}", [ended for _, ended in good]))
        for defect in DEFECTS:
            mine = [ended for had, ended in bad if had is defect]
            rows.append(_row(f"{defect.name}, {words}", mine))
        for share in _SHARES:
            for defect in DEFECTS[:-1]:
                weak = milder(defect, share)
                rows.append(_row(f"{weak.name}, {words}", [e for _, e in run([weak], count // 10)]))
        title = f"Rollout: what is asked, {words}"
        holds &= record_claims(title, command, claims(good, bad), file=results)
    note = (
        f"Simulated users send {_TRAFFIC:g} requests/s; latencies are stretches of {_STRETCH:g} s "
        "of a recorded server in their order; up to 1.5 % of the requests fail on both sides, and "
        "for 2 % of the time, in bursts of 10 to 300 s, a tenth. Policy: "
        f"the default ({json.dumps(Policy().steps)} %). Exposure: share of all requests until the "
        "rollout ended that the canary answered."
    )
    record("Rollout: the judge", command, _COLUMNS, rows, note, results)
    return holds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rollouts", type=int, default=200, help="good ones, and bad ones")
    parser.add_argument("--results", type=Path, default=FILE, help="where figures are written to")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="rollout-") as folder:
        bundle = make("custom_cnn", Path(folder))
        recording = record_server(bundle, Catalog(str(Path(folder) / "catalog")))
        holds = measure(recording, arguments.rollouts, arguments.results)
    raise SystemExit(not holds)


if __name__ == "__main__":
    main()
