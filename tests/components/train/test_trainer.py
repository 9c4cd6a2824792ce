"""What every way to train in several processes does: through torchrun here, and as a TrainJob.

The TrainJob's two nodes are two torchruns of this machine, on loopback.
"""

import dataclasses
import os
import signal
import threading
import time
from pathlib import Path

import pytest
from crds import FOLDER
from kubernetes_api import running_kubernetes
from safetensors.torch import load_file
from torch import equal
from trainer_controller import running_trainer

from components.train.exchange import Exchange
from components.train.job import job_name
from components.train.job_client import JobClient
from components.train.order import Order, Place
from components.train.settings import LaunchSettings
from components.train.torchrun import Torchrun
from components.train.train import train
from components.train.trainjob import TrainJob
from marquee.bundle import load
from marquee.errors import MarqueeError, Stopped
from marquee.processes import family
from marquee.settings import Settings
from marquee.split import SplitPlan

STUDY = {
    "preset": "study", "height": 32, "width": 32, "epochs": 3, "batch_size": 16, "workers": 0,
    "dropout": 0.0, "precision": "fp32", "precisions": "", "learning_rate": 1e-3,
    "checkpoint_minutes": 0.0,
}  # fmt: skip
"""No BatchNorm and no dropout: what a batch teaches does not depend on who computes it."""
WAYS = ("torchrun", "trainjob")
SLOW = ["torchrun", pytest.param("trainjob", marks=pytest.mark.slow)]


@pytest.fixture
def order(drawn_catalog, drawn_split, tmp_path):
    def make(name, **changes):
        values = {
            "catalog_uri": drawn_catalog,
            "split_uri": drawn_split,
            "architecture": "custom_cnn",
            "weights": "random",
            "bundle_uri": str(tmp_path / name / "bundle"),
            "checkpoints_uri": str(tmp_path / name / "train/checkpoints"),
        }
        return Order(**(values | changes))

    return make


@pytest.fixture
def controller(tmp_path):
    if not FOLDER.exists():
        pytest.skip("needs Trainer's CRDs in ../shared/crds")
    with (
        running_kubernetes(crds=("trainer",)) as api,
        running_trainer(api, tmp_path) as running,
    ):
        running.client = JobClient("films", api.kubeconfig(tmp_path))
        yield running


@pytest.fixture
def way(request):
    """Two processes that train together."""
    if request.param == "torchrun":
        return Torchrun(2)
    return two_nodes(request.getfixturevalue("controller"))


def two_nodes(controller):
    disk = {"volume_mounts": [{"name": "disk", "mountPath": "/"}]}
    disk["volumes"] = [{"name": "disk", "persistentVolumeClaim": {"claimName": "disk"}}]
    place = Place(nodes=2, task=disk, storage_class="none")
    return TrainJob(place, LaunchSettings(), controller.client, poll=0.1)


def weights(report):
    return load_file(Path(report.bundle_uri, "weights.safetensors"))


def same(one, other):
    return one.keys() == other.keys() and all(equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module")
def alone(drawn_catalog, drawn_split, tmp_path_factory):
    """What one process learns."""
    order = Order(
        catalog_uri=drawn_catalog,
        split_uri=drawn_split,
        architecture="custom_cnn",
        weights="random",
        bundle_uri=str(tmp_path_factory.mktemp("alone") / "bundle"),
    )
    return train(order, Settings(train=STUDY))


@pytest.mark.parametrize("way", WAYS, indirect=True)
def test_two_processes_learn_what_one_learns(way, order, alone):
    together = way.train(order("together"), Settings(train=STUDY))
    assert len(alone.history) == len(together.history) == 3
    for one, two in zip(alone.history, together.history, strict=True):
        assert two["loss"] == pytest.approx(one["loss"], abs=1e-3)
        assert two["validation_macro_map"] == pytest.approx(one["validation_macro_map"], abs=1e-2)
    assert load(together.bundle_uri).version == together.version
    assert _workers() == []


@pytest.mark.parametrize("way", SLOW, indirect=True)
def test_an_error_of_all_processes_is_the_error(way, order):
    stale = order("b", split_uri=_stale(order("b")))
    with pytest.raises(MarqueeError, match="was made for the catalog 000000000000") as caught:
        way.train(stale, Settings(train=STUDY))
    assert caught.value.exit_code == 2
    assert "balance" in caught.value.remedy


def _stale(order):
    plan = SplitPlan.read(order.split_uri)
    uri = f"{order.bundle_uri}-split"
    dataclasses.replace(plan, balance=plan.balance | {"catalog_digest": "0" * 64}).write(uri)
    return uri


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS, indirect=True)
def test_asked_to_stop_it_leaves_a_checkpoint_and_goes_on_to_the_same_weights(way, order):
    settings = Settings(train={**STUDY, "epochs": 5})
    whole = way.train(order("whole"), settings)
    broken = order("broken")
    thread = _when(_checkpoints(broken, 3), lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(MarqueeError, match="stopped") as caught:
        way.train(broken, settings)
    assert caught.value.exit_code == Stopped.exit_code
    thread.join()
    _wait_for(lambda: _workers() == [])
    assert _checkpoints(broken, 1)()
    assert not Path(broken.bundle_uri).exists()
    resumed = way.train(broken, settings)
    assert same(weights(whole), weights(resumed))
    assert resumed.history == whole.history


@pytest.mark.slow
@pytest.mark.parametrize("node", [0, 1])
def test_a_preempted_node_is_begun_anew_and_ends_in_the_same_weights(node, controller, order):
    settings = Settings(train={**STUDY, "epochs": 5})
    job = two_nodes(controller)
    whole = job.train(order("whole"), settings)
    broken = order("broken")
    name = job_name(broken)
    thread = _when(_checkpoints(broken, 3), lambda: controller.preempt(name, node))
    report = job.train(broken, settings)
    thread.join()
    assert same(weights(whole), weights(report))
    assert report.history == whole.history
    # Both wrote down that they stopped, which is no failure; both were begun anew.
    assert (controller.jobs[name].failures, controller.jobs[name].groups) == (0, 2)


@pytest.mark.slow
def test_a_node_that_is_lost_costs_what_follows_the_last_checkpoint(controller, order):
    settings = Settings(train={**STUDY, "epochs": 8, "patience": 8})
    job = two_nodes(controller)
    whole = job.train(order("whole"), settings)
    broken = order("broken")
    name = job_name(broken)
    thread = _when(_checkpoints(broken, 3), lambda: controller.kill(name, 1))
    report = job.train(broken, settings)
    thread.join()
    assert same(weights(whole), weights(report))
    assert (controller.jobs[name].failures, controller.jobs[name].groups) == (1, 2)


@pytest.mark.slow
def test_a_node_that_is_lost_after_the_last_step_keeps_nobody_waiting(controller, order):
    """The other one waits for it, and it for the other one, when it has begun anew."""
    done = order("done")
    name = job_name(done)
    job = two_nodes(controller)
    sealed = Path(done.bundle_uri)
    thread = _when(sealed.exists, lambda: controller.kill(name, 1))
    assert job.train(done, Settings(train=STUDY)).version == load(done.bundle_uri).version
    thread.join()


@pytest.mark.slow
def test_a_training_that_nobody_follows_stops_with_a_checkpoint(controller, order, monkeypatch):
    """The launcher is killed, and cannot delete the job."""
    settings = Settings(train={**STUDY, "epochs": 30, "patience": 30})
    left = order("left")
    name = job_name(left)
    job = two_nodes(controller)
    short = "t._LOOK_SECONDS, t._ABANDONED_SECONDS = 0.2, 5.0"
    monkeypatch.setattr("components.train.trainjob._BEAT_SECONDS", 0.5)
    run = f"import sys; from components.train import torchrun as t; {short}"
    controller.command = ["python", "-c", f"{run}; sys.exit(t.main(sys.argv[1]))", left.exchange]
    enough = _checkpoints(left, 2)

    class Killed(BaseException):
        pass

    def killed(self, name):
        if enough():
            raise Killed
        return []

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(JobClient, "pods", killed)
        patched.setattr(JobClient, "delete", lambda self, name: None)
        job.train(left, settings)
    _wait_for(lambda: controller.jobs[name].ended)
    _wait_for(lambda: _workers() == [])
    assert _condition(controller, name)["type"] == "Failed"
    assert Exchange(left.exchange).error().exit_code == Stopped.exit_code
    assert enough()
    assert not Path(left.bundle_uri).exists()
    # Who comes later goes on from there, with pods that wait as long as they do outside of tests.
    controller.command = None
    resumed = job.train(left, settings)
    assert [epoch["epoch"] for epoch in resumed.history] == list(range(1, 31))


def _condition(controller, name):
    (condition,) = controller.client.get(name)["status"]["conditions"]
    return condition


def _checkpoints(order, count):
    """Tell, when called, whether a training has written so many checkpoints."""
    seen = set()

    def enough():
        seen.update(Path(order.checkpoints).glob("*/*.pt"))
        return len(seen) >= count

    return enough


def _workers():
    """The processes of this one that train."""
    lines = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in family("self")[1:]]
    return [line for line in lines if b"train.worker" in line]


def _wait_for(condition, seconds=120):
    for _ in range(20 * seconds):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("it never came to pass")


def _when(condition, act):
    def wait():
        _wait_for(condition)
        act()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread
