"""The training loop: stopped and resumed, shared by processes, and what can go wrong in it."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from components.train import loop
from components.train.checkpoints import Checkpoints
from components.train.exchange import Exchange
from components.train.launch import train as launch
from components.train.train import Order, train
from components.train.world import World
from marquee.bundle import load
from marquee.catalog import Catalog
from marquee.engine import Engine
from marquee.eras import ERAS
from marquee.errors import DataError, InfrastructureError, MarqueeError, Stopped, UsageError
from marquee.processes import family
from marquee.settings import Settings
from marquee.split import SplitPlan

STUDY = {
    "preset": "study", "height": 32, "width": 32, "epochs": 3, "batch_size": 16, "workers": 0,
    "dropout": 0.0, "precision": "fp32", "precisions": "", "learning_rate": 1e-3,
    "checkpoint_minutes": 0.0,
}  # fmt: skip
"""No BatchNorm and no dropout: what a batch teaches does not depend on who computes it."""
SMALL = {
    "height": 48, "width": 32, "epochs": 4, "batch_size": 16, "workers": 1, "dropout": 0.3,
    "ema": 0.9, "checkpoint_minutes": 0.0, "precision": "fp32", "precisions": "",
}  # fmt: skip
TUNED = {
    "height": 48, "width": 32, "epochs": 2, "batch_size": 32, "mirror": True,
    "fine_tune_epochs": 20, "fine_tune_patience": 20, "checkpoint_minutes": 0.0,
    "precision": "fp32", "precisions": "",
}  # fmt: skip


@pytest.fixture
def order(drawn_catalog, drawn_split, tmp_path):
    def make(name, architecture="custom_cnn", **changes):
        values = {
            "catalog_uri": drawn_catalog,
            "split_uri": drawn_split,
            "architecture": architecture,
            "weights": "random",
            "bundle_uri": str(tmp_path / name),
        }
        return Order(**(values | changes))

    return make


def weights(report):
    return load_file(Path(report.bundle_uri, "weights.safetensors"))


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def command(order, settings):
    """The command line of a training, for a process of its own."""
    pairs = [
        word for name, value in settings.items() for word in ("--set", f"train.{name}={value}")
    ]
    return [
        *(sys.executable, "-m", "marquee", "train", order.catalog_uri, order.split_uri),
        *("--out", order.bundle_uri, "--arch", order.architecture, "--weights", order.weights),
        *(word.replace("=True", "=true") for word in pairs),
    ]


def checkpoints(order):
    return sorted(Path(order.checkpoints).glob("*/*.pt"))


def wait_for(condition, process, seconds=120):
    for _ in range(20 * seconds):
        if condition():
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    raise AssertionError("it never came to pass")


STOPS = {
    "SIGTERM": (signal.SIGTERM, "custom_cnn", SMALL, 3),
    "SIGKILL": (signal.SIGKILL, "custom_cnn", SMALL, 3),
    "SIGTERM while the last block trains": (signal.SIGTERM, "vgg16", TUNED, 3),
    "SIGTERM of two processes": (signal.SIGTERM, "custom_cnn", {**SMALL, "processes": 2}, 3),
}


@pytest.mark.parametrize(
    "name", ["SIGTERM", *(pytest.param(name, marks=pytest.mark.slow) for name in list(STOPS)[1:])]
)
def test_stopped_and_resumed_it_ends_in_the_same_weights(name, order):
    number, architecture, settings, after = STOPS[name]
    whole = launch(order("whole", architecture), Settings(train=settings))
    broken = order("broken", architecture)
    process = subprocess.Popen(
        command(broken, settings), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    seen = set()

    def enough():
        seen.update(checkpoints(broken))
        return len(seen) >= after

    wait_for(enough, process)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == (7 if number == signal.SIGTERM else -9), said
    assert checkpoints(broken)
    assert not Path(broken.bundle_uri).exists()
    resumed = subprocess.run(command(broken, settings), capture_output=True, text=True, check=True)
    assert "going on in epoch" in resumed.stderr
    assert same(weights(whole), load_file(Path(broken.bundle_uri, "weights.safetensors")))
    assert load(broken.bundle_uri).info.history == whole.history
    assert not Path(broken.checkpoints).exists()


@pytest.mark.parametrize("changes", [{"processes": 2}, {"accumulate": 2}])
@pytest.mark.slow
def test_fine_tuning_teaches_the_same_however_a_step_is_shared(changes, order):
    settings = {**TUNED, "epochs": 1, "fine_tune_epochs": 2, "dropout": 0.0, "crop": 0.6}
    whole = train(order("whole", "vgg16"), Settings(train=settings))
    shared = launch(order("shared", "vgg16"), Settings(train=settings | changes))
    assert [row["loss"] for row in shared.history] == pytest.approx(
        [row["loss"] for row in whole.history], abs=1e-3
    )


@pytest.fixture
def ranks(tmp_path):
    """Runs a training in processes that first run some code of their own."""

    def run(order, settings, code, processes=2):
        exchange = Exchange(str(tmp_path / "exchange"))
        exchange.begin(order, Settings(train=settings))
        script = tmp_path / "rank.py"
        start = "from components.train.worker import main\nmain(sys.argv[1])\n"
        script.write_text(f"import os, sys\nfrom pathlib import Path\n{code}\n{start}")
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        torchrun += [f"--nproc-per-node={processes}", str(script), exchange.uri]
        subprocess.run(torchrun, check=True, timeout=120)
        return exchange.report()

    return run


@pytest.mark.slow
def test_many_processes_score_the_same_network(order, ranks):
    """BatchNorm's running means differ from process to process until they agree."""
    code = (
        "import torch\n"
        "from components.train.loop import Trainer\n"
        "score = Trainer._score\n"
        "def checked(self, module):\n"
        "    mine = [part for part in module.buffers() if part.is_floating_point()]\n"
        "    first, second = self._world.gather(mine)\n"
        "    assert mine and all(map(torch.equal, first, second)), 'they differ'\n"
        "    return score(self, module)\n"
        "Trainer._score = checked\n"
    )
    assert len(ranks(order("b"), {**SMALL, "epochs": 1}, code).history) == 1


@pytest.mark.slow
def test_caches_that_differ_do_not_put_processes_out_of_step(order, ranks, tmp_path):
    """As on machines of their own, one of which is new."""
    settings = {**TUNED, "fine_tune_epochs": 1, "mirror": False}
    code = f"os.environ['MARQUEE_CACHE'] = '{tmp_path}/cache-' + os.environ['RANK']"
    for processes in (1, 2):
        ranks(order("b", "vgg16"), settings, code, processes)
    assert len(list(tmp_path.glob("cache-*"))) == 2


def test_a_step_that_is_too_small_to_share_is_refused(order):
    with pytest.raises(UsageError, match="a step of 8 posters, shared by 1 processes in 5 parts"):
        train(order("b"), Settings(train={**SMALL, "batch_size": 8, "accumulate": 5}))


def test_asked_to_stop_after_the_last_step_it_stops(order, monkeypatch):
    here, settings = order("b"), Settings(train={**STUDY, "epochs": 1})
    measure = loop.macro_map

    def interrupted(*values):
        os.kill(os.getpid(), signal.SIGTERM)
        return measure(*values)

    monkeypatch.setattr(loop, "macro_map", interrupted)
    with pytest.raises(Stopped, match="stopped in epoch 2"):
        train(here, settings)
    monkeypatch.undo()
    assert not Path(here.bundle_uri).exists()
    assert same(weights(train(here, settings)), weights(train(order("c"), settings)))


def test_early_stopping_keeps_the_best_epoch(order, monkeypatch):
    scores = iter([0.1, 0.4, 0.3, 0.2])
    monkeypatch.setattr(loop, "macro_map", lambda *_: next(scores))
    stopped = train(order("b"), Settings(train={**STUDY, "epochs": 4, "patience": 2}))
    assert [row["validation_macro_map"] for row in stopped.history] == [0.1, 0.4, 0.3, 0.2]
    monkeypatch.undo()
    shorter = iter([0.1, 0.4, 0.3, 0.3])
    monkeypatch.setattr(loop, "macro_map", lambda *_: next(shorter))
    patient = train(order("c"), Settings(train={**STUDY, "epochs": 4, "patience": 1}))
    assert len(patient.history) == 3
    assert same(weights(stopped), weights(patient))


@pytest.mark.slow
def test_fine_tuning_that_does_not_help_is_undone(order, monkeypatch):
    settings = {**TUNED, "epochs": 1, "fine_tune_epochs": 2}
    frozen = train(order("frozen", "vgg16"), Settings(train={**settings, "fine_tune_epochs": 0}))
    head, start, *tuned = 0.5, 0.5, 0.4, 0.45
    scores = iter([head, start, *tuned])
    monkeypatch.setattr(loop, "macro_map", lambda *_: next(scores))
    report = train(order("tuned", "vgg16"), Settings(train=settings))
    assert [row["validation_macro_map"] for row in report.history] == [head, *tuned]
    before, after = (
        {name: value for name, value in weights(one).items() if name.startswith("backbone")}
        for one in (frozen, report)
    )
    assert same(before, after)


def test_the_learning_rate_rises_and_falls():
    factor = loop._cosine(100, 0.1)
    rates = [factor(step) for step in range(101)]
    assert rates[:10] == pytest.approx([n / 10 for n in range(1, 11)])
    assert rates[10] == pytest.approx(1)
    assert rates[55] == pytest.approx(0.5)
    assert rates[100] == pytest.approx(0)
    assert sorted(rates[10:], reverse=True) == rates[10:]


@pytest.mark.parametrize(("decay", "updates", "kept"), [(0.9, 1000, 0.9), (0.9, 0, 0.1), (0, 9, 0)])
def test_the_moving_average_is_short_at_first(decay, updates, kept):
    averages, counters = [torch.tensor([1.0])], [torch.tensor([1])]
    average = loop._moving_average(decay)
    average(averages, [torch.tensor([0.0])], torch.tensor(updates))
    average(counters, [torch.tensor([5])], torch.tensor(updates))
    assert averages[0].item() == pytest.approx(kept)
    assert counters[0].item() == 5


def test_gradients_are_clipped(order, monkeypatch):
    norms = []
    step = torch.optim.AdamW.step

    def watched(optimizer, *rest):
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"]]
        norms.append(float(torch.nn.utils.get_total_norm(gradients)))
        return step(optimizer, *rest)

    monkeypatch.setattr(torch.optim.AdamW, "step", watched)
    train(order("b"), Settings(train={**STUDY, "epochs": 1, "clip": 0.01}))
    assert norms == pytest.approx([0.01] * len(norms), rel=1e-3)
    assert norms


def test_the_parts_of_a_step_teach_what_the_whole_does(order):
    whole = train(order("whole"), Settings(train=STUDY))
    parts = train(order("parts"), Settings(train={**STUDY, "accumulate": 4}))
    assert [row["loss"] for row in parts.history] == pytest.approx(
        [row["loss"] for row in whole.history], abs=1e-3
    )


def test_a_lost_process_is_an_error_and_no_hang(order, tmp_path):
    lost = order("lost")
    settings = {**STUDY, "epochs": 2000, "processes": 2}
    process = subprocess.Popen(
        command(lost, settings), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    wait_for(lambda: checkpoints(lost), process)
    trains = [pid for pid in family(process.pid) if b"train.worker" in _command_line(pid)]
    os.kill(trains[-1], signal.SIGKILL)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 5, said
    assert "lost" in said
    assert "goes on from the last checkpoint" in said


def _command_line(pid):
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def test_an_error_that_one_of_many_processes_meets_is_the_error(order, drawn_catalog, tmp_path):
    catalog = tmp_path / "catalog"
    shutil.copytree(drawn_catalog, catalog)
    plan = SplitPlan.read(order("b").split_uri).frame
    first = plan.loc[plan["split"] == "train", "poster_id"].iloc[0]
    place = Catalog(drawn_catalog).frame(["shard_offset"]).set_index("poster_id").loc[first]
    shard = next(catalog.glob(f"parts/{place['part']}/shard.tar"))
    data = bytearray(shard.read_bytes())
    data[place["shard_offset"] + 64] ^= 255
    shard.write_bytes(data)
    settings = Settings(train={**STUDY, "processes": 2})
    with pytest.raises(MarqueeError, match=f"the bytes of the poster {first}") as caught:
        launch(order("b", catalog_uri=str(catalog)), settings)
    assert caught.value.exit_code == 2


def test_a_loss_that_is_no_number_is_an_error_and_the_checkpoint_before_stays(order, monkeypatch):
    here = order("b")
    learn, steps = loop.loss_of, []

    def spoilt(outputs, *rest):
        steps.append(1)
        return learn(outputs * (float("nan") if len(steps) > 4 else 1.0), *rest)

    monkeypatch.setattr(loop, "loss_of", spoilt)
    with pytest.raises(InfrastructureError, match="the loss is nan in epoch") as caught:
        train(here, Settings(train=STUDY))
    assert "learning_rate" in caught.value.remedy
    monkeypatch.undo()
    assert checkpoints(here)
    train(here, Settings(train=STUDY))


def test_a_damaged_shard_names_the_poster(order, drawn_catalog, tmp_path):
    copy = tmp_path / "catalog"
    shutil.copytree(drawn_catalog, copy)
    for shard in copy.glob("parts/*/shard.tar"):
        data = bytearray(shard.read_bytes())
        data[4096::1024] = bytes(len(data[4096::1024]))
        shard.write_bytes(data)
    for workers in (0, 1):
        with pytest.raises(DataError, match="is damaged: the bytes of the poster") as why:
            train(order("b", catalog_uri=str(copy)), Settings(train={**STUDY, "workers": workers}))
        assert "ingest again" in why.value.remedy


def test_an_error_without_words_is_told(order, monkeypatch):
    def exhausted(*_):
        raise MemoryError

    monkeypatch.setattr(loop, "loss_of", exhausted)
    with pytest.raises(InfrastructureError, match="MemoryError"):
        train(order("b"), Settings(train=STUDY))


def test_memory_that_runs_out_is_an_error(order):
    """A limit of the process stands for a machine that is too small."""
    code = (
        "import dataclasses, json, resource, sys\n"
        "from pathlib import Path\n"
        "from components.train.train import Order, train\n"
        "from marquee.errors import InfrastructureError\n"
        "from marquee.settings import Settings\n"
        "lines = Path('/proc/self/status').read_text().splitlines()\n"
        "held = next(int(line.split()[1]) for line in lines if line.startswith('VmData')) * 1024\n"
        "resource.setrlimit(resource.RLIMIT_DATA, (held + 2**30,) * 2)\n"
        "spec = json.loads(sys.argv[1])\n"
        "try:\n"
        "    train(Order(**spec['order']), Settings(train=spec['train']))\n"
        "except InfrastructureError as error:\n"
        "    print(error)\n"
    )
    greedy = {**STUDY, "height": 512, "width": 512, "batch_size": 128}
    spec = json.dumps({"order": dataclasses.asdict(order("b")), "train": greedy})
    done = subprocess.run([sys.executable, "-c", code, spec], capture_output=True, text=True)
    assert "memory ran out" in done.stdout, done.stderr
    assert "train.accumulate" in done.stdout


def test_a_full_disk_keeps_the_checkpoint_before(tmp_path):
    """A limit on the size of files stands for a disk without room."""
    kept = Checkpoints(str(tmp_path), {"a": 1}, "0-network", keep=2)
    kept.save(1, 0, {"values": torch.arange(10)})
    code = (
        "import resource, signal, sys, torch\n"
        "from components.train.checkpoints import Checkpoints\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))\n"
        "kept = Checkpoints(sys.argv[1], {'a': 1}, '0-network', keep=2)\n"
        "kept.save(2, 0, {'values': torch.zeros(100_000)})\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True
    )
    assert "InfrastructureError: could not write the checkpoint" in done.stderr
    assert "make room" in done.stderr
    found = kept.newest()
    assert (found.epoch, found.step) == (1, 0)
    assert torch.equal(found.state["values"], torch.arange(10))
    assert len(list(tmp_path.rglob("*"))) == 2


def test_the_newest_checkpoints_are_kept_and_a_damaged_one_is_passed_over(tmp_path, caplog):
    kept = Checkpoints(str(tmp_path), {"a": 1}, "0-network", keep=2)
    for epoch, step in ((0, 5), (0, 10), (1, 0), (1, 5)):
        kept.save(epoch, step, {"at": epoch + step})
    files = sorted(tmp_path.rglob("*.pt"))
    assert [file.name for file in files] == [
        "0-network-00001-0000000.pt",
        "0-network-00001-0000005.pt",
    ]
    files[1].write_bytes(files[1].read_bytes()[:100])
    assert kept.newest().state == {"at": 1}
    assert "is damaged" in caplog.text
    assert Checkpoints(str(tmp_path), {"a": 2}, "0-network", keep=2).newest() is None
    assert Checkpoints(str(tmp_path), {"a": 1}, "1-fine-tuning", keep=2).newest() is None


def test_a_checkpoint_that_follows_damaged_ones_stays(tmp_path):
    kept = Checkpoints(str(tmp_path), {}, "0-network", keep=2)
    for epoch in (6, 7):
        kept.save(epoch, 0, {"at": epoch})
    for file in tmp_path.rglob("*.pt"):
        file.write_bytes(b"")
    assert kept.newest() is None
    kept.save(1, 0, {"at": 1})
    assert kept.newest().state == {"at": 1}


def test_a_checkpoint_that_cannot_be_fetched_is_no_reason_to_begin_anew(tmp_path, monkeypatch):
    kept = Checkpoints(str(tmp_path), {}, "0-network", keep=2)
    kept.save(1, 0, {"at": 1})

    def refused(_uri):
        raise PermissionError("no")

    monkeypatch.setattr("marquee.storage.read_bytes", refused)
    with pytest.raises(PermissionError):
        kept.newest()


def test_processes_that_go_on_from_different_checkpoints_are_refused(order, monkeypatch):
    monkeypatch.setattr(World, "gather", lambda _, value: [value, (3, 0)])
    with pytest.raises(InfrastructureError, match="found different checkpoints"):
        train(order("b"), Settings(train=STUDY))


@pytest.mark.parametrize("kind", ["bucket", "s3_bucket"])
def test_checkpoints_live_in_buckets_too(kind, request):
    kept = Checkpoints(f"{request.getfixturevalue(kind)}/checkpoints", {}, "0-head", keep=1)
    for epoch in (1, 2, 10):
        kept.save(epoch, 0, {"epoch": epoch})
        assert kept.newest().state == {"epoch": epoch}


def test_a_genre_without_posters_is_named(order, caplog, drawn_catalog, drawn_split, tmp_path):
    plan = SplitPlan.read(drawn_split)
    catalog = Catalog(drawn_catalog)
    frame = catalog.frame(["genres"]).set_index("poster_id")["genres"]
    romance = {name for name, genres in frame.items() if "Romance" in genres}
    rows = plan.frame[~((plan.frame["split"] == "train") & plan.frame["poster_id"].isin(romance))]
    uri = str(tmp_path / "split")
    SplitPlan(rows.reset_index(drop=True), plan.balance).write(uri)
    train(order("b", split_uri=uri), Settings(train={**STUDY, "epochs": 1}))
    assert "no training poster has Romance" in caplog.text


def test_the_era_is_predicted_beside_the_genres(order):
    report = train(order("b"), Settings(train={**SMALL, "epochs": 1, "era_weight": 0.3}))
    bundle = load(report.bundle_uri)
    assert bundle.info.eras == ERAS
    images = np.zeros((2, 48, 32, 3), np.uint8)
    outputs = Engine(bundle).infer(images, ("logits", "era"))
    assert (outputs["logits"].shape, outputs["era"].shape) == ((2, 4), (2, 8))
    first = Engine(bundle).predict(images)[0]
    assert first.era == ERAS[outputs["era"][0].argmax()]
    assert list(first.probabilities) == list(bundle.info.genres)
