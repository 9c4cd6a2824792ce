"""The TrainJob of a training, and how it is followed; its pods are short scripts here."""

import dataclasses
import json
import os
import signal
import threading
import time
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from crds import FOLDER, problem_of
from kubernetes_api import running_kubernetes
from trainer_controller import running_trainer

from components.train.exchange import Exchange
from components.train.job import DIGEST, job_name, train_job
from components.train.job_client import JobClient
from components.train.launch import Alone, trainer
from components.train.order import Order, Place, TrainReport
from components.train.settings import LaunchSettings, TrainSettings
from components.train.trainjob import TrainJob
from marquee.errors import InfrastructureError, MarqueeError, Stopped, UsageError
from marquee.settings import Settings

REPORT = TrainReport(
    architecture="custom_cnn", version="v1", bundle_uri="b", validation={"macro_map": 0.5},
    history=[{"epoch": 1.0}], cross_validation={},
    settings=TrainSettings(
        height=32, width=32, epochs=1, patience=1, batch_size=8, learning_rate=1e-3,
        weight_decay=0.0, dropout=0.0,
    ),
)  # fmt: skip
TASK = {
    "env": [
        {"name": "MARQUEE_TRAIN_IMAGE", "value": "registry/marquee-train:1"},
        {
            "name": "AWS_ACCESS_KEY_ID",
            "valueFrom": {
                "secretKeyRef": {
                    "name": "marquee-storage",
                    "key": "AWS_ACCESS_KEY_ID",
                    "optional": True,
                }
            },
        },
    ],
    "resources": {"limits": {"memory": "16Gi"}, "requests": {"cpu": "4", "memory": "16Gi"}},
    "node_selector": {"pool": "spot"},
    "tolerations": [{"key": "spot", "operator": "Exists"}],
    "affinity": {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [
                    {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}
                ]
            }
        }
    },
    "volumes": [{"name": "claim", "persistentVolumeClaim": {"claimName": "marquee-storage"}}],
    "volume_mounts": [{"name": "claim", "mountPath": "/mnt/marquee"}],
}
"""As KFP's backend writes it."""


def order_at(folder, **changes):
    run = str(folder)
    values = {
        "catalog_uri": f"{run}/catalog",
        "split_uri": f"{run}/balance",
        "architecture": "custom_cnn",
        "weights": "random",
        "bundle_uri": f"{run}/bundles/custom_cnn",
        "checkpoints_uri": f"{run}/train/custom_cnn/checkpoints",
        "run": run,
    }
    return Order(**(values | changes))


def document(place, order=None, **launch):
    return train_job(order or order_at("gs://b/run"), place, LaunchSettings(**launch), "d", None)


def pod_of(job):
    (patch,) = job["spec"]["runtimePatches"]
    (node,) = patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    return node["template"]["spec"]["template"]["spec"]


PLACES = {
    "a laptop's default": (Place(), "marquee-cpu", 1),
    "one GPU": (Place(gpus=1, task=TASK), "marquee-gpu", 1),
    "several GPUs": (Place(gpus=4, gpu_type="A100", task=TASK), "marquee-multi-gpu", 4),
    "several nodes": (Place(nodes=2, task=TASK, storage_class="fast"), "marquee-multi-node", 1),
    "all of it": (
        Place(nodes=3, gpus=8, gpu_type="L40S", task=TASK, storage_class="none"),
        "marquee-multi-node-gpu",
        8,
    ),
}


@pytest.mark.parametrize("name", PLACES)
def test_the_job_is_valid_and_asks_for_the_runtime_of_its_place(name):
    place, runtime, processes = PLACES[name]
    job = document(place)
    if FOLDER.exists():
        assert problem_of(job) == ""
    assert job["spec"]["runtimeRef"] == {"name": runtime}
    assert job["spec"]["trainer"]["numNodes"] == place.nodes
    assert job["spec"]["trainer"]["numProcPerNode"] == processes


def test_what_the_task_carries_goes_to_the_pods():
    job = document(Place(gpus=2, task=TASK, storage_class="fast"), features_gigabytes=7)
    trainer, pod = job["spec"]["trainer"], pod_of(job)
    assert trainer["image"] == "registry/marquee-train:1"
    assert trainer["resourcesPerNode"] == {
        "limits": {"memory": "16Gi", "nvidia.com/gpu": 2},
        "requests": {"cpu": "4", "memory": "16Gi", "nvidia.com/gpu": 2},
    }
    assert [variable["name"] for variable in trainer["env"]] == [
        *("MARQUEE_TRAIN_IMAGE", "AWS_ACCESS_KEY_ID", "MARQUEE_CACHE"),
    ]
    assert pod["nodeSelector"] == {"pool": "spot"}
    assert [toleration["key"] for toleration in pod["tolerations"]] == ["spot", "nvidia.com/gpu"]
    claim, features = pod["volumes"]
    assert claim == TASK["volumes"][0]
    assert features["ephemeral"]["volumeClaimTemplate"]["spec"] == {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "7Gi"}},
        "storageClassName": "fast",
    }
    (container,) = pod["containers"]
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounts["claim"] == "/mnt/marquee"
    cache = next(e["value"] for e in trainer["env"] if e["name"] == "MARQUEE_CACHE")
    assert mounts[features["name"]] == cache


def test_the_image_that_the_cluster_wants_wins(monkeypatch):
    pinned = "registry/marquee-train@sha256:0123"
    monkeypatch.setenv("MARQUEE_TRAIN_IMAGE_HERE", pinned)
    assert document(Place(task=TASK))["spec"]["trainer"]["image"] == pinned


def test_no_gpu_is_asked_for_where_none_is_wanted():
    task = TASK | {"resources": {"limits": {"nvidia.com/gpu": "0"}}}
    assert "resourcesPerNode" not in document(Place(task=task))["spec"]["trainer"]


def test_a_storage_class_of_none_takes_no_volume():
    job = document(Place(storage_class="none"))
    assert "volumes" not in pod_of(job)
    assert job["spec"]["trainer"]["env"] == []


def _nodes(job):
    affinity = pod_of(job).get("affinity", {}).get("nodeAffinity", {})
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution", {})
    return [
        {e["key"]: e["values"] for e in term["matchExpressions"]}
        for term in required.get("nodeSelectorTerms", [])
    ]


def test_a_gpu_type_is_looked_for_under_each_label_beside_what_the_task_wants():
    assert _nodes(document(Place(gpus=1, gpu_type="L4"))) == [
        {"nvidia.com/gpu.product": ["NVIDIA-L4"]},
        {"cloud.google.com/gke-accelerator": ["nvidia-l4"]},
        {"karpenter.k8s.aws/instance-gpu-name": ["l4"]},
        {"eks.amazonaws.com/instance-gpu-name": ["l4"]},
    ]
    terms = _nodes(document(Place(gpus=1, gpu_type="L4", task=TASK)))
    assert len(terms) == 4
    assert all(term["zone"] == ["a"] for term in terms)
    assert _nodes(document(Place(gpus=1, task=TASK))) == [{"zone": ["a"]}]
    # Without GPUs the type says nothing.
    assert _nodes(document(Place(gpu_type="L4"))) == []


def test_names_are_told_apart_and_short_enough_for_jobset():
    names = {
        job_name(order_at(run, architecture=architecture))
        for run in ("gs://b/1", "gs://b/2")
        for architecture in ("custom_cnn", "vgg16", "efficientnet_b0_with_a_very_long_name")
    }
    assert len(names) == 6
    assert max(map(len, names)) <= 40
    assert job_name(order_at("gs://b/1")) == job_name(order_at("gs://b/1", weights="torchvision"))
    assert all(name.startswith("train-") and name.islower() and "_" not in name for name in names)


REFUSED = {
    "no node": ({"nodes": 0}, "nodes is 0"),
    "too many GPUs": ({"gpus": 99}, "gpus is 99"),
    "an unknown GPU": ({"gpu_type": "L5"}, "gpu_type is 'L5'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_place_that_cannot_be_is_refused(name):
    values, message = REFUSED[name]
    with pytest.raises(UsageError, match=message):
        Place(**values)


def test_pods_share_no_disk(tmp_path):
    with pytest.raises(UsageError, match="is on this machine's disk") as caught:
        document(Place(task=TASK), order_at(tmp_path))
    assert "MARQUEE_STORAGE_PVC" in caught.value.remedy
    assert document(Place(task=TASK), order_at("/mnt/marquee/run"))
    with pytest.raises(UsageError, match="/mnt/marquee2/run"):
        document(Place(task=TASK), order_at("/mnt/marquee2/run"))


CHOICES = {
    "a laptop": ({}, Place(), Alone),
    "torchrun in a step": ({"launcher": "torchrun"}, Place(task=TASK), Alone),
    "a step of Kubeflow": ({}, Place(task=TASK), TrainJob),
    "a laptop with a cluster": ({"launcher": "trainjob"}, Place(), TrainJob),
}


@pytest.mark.parametrize("name", CHOICES)
def test_what_trains_is_chosen(name, tmp_path, monkeypatch):
    with running_kubernetes(crds=()) as api:
        where = "kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION"
        monkeypatch.setattr(where, api.kubeconfig(tmp_path))
        settings, place, kind = CHOICES[name]
        assert isinstance(trainer(order_at("gs://b/r"), Settings(train=settings), place), kind)


MISFITS = {
    "nodes": (Place(nodes=2), {}, "this is one machine, not 2"),
    "GPUs": (Place(gpus=16), {}, "GPUs, not 16"),
    "an unknown launcher": (Place(), {"launcher": "spark"}, "train.launcher is 'spark'"),
}


@pytest.mark.parametrize("name", MISFITS)
def test_a_machine_that_cannot_is_told_so(name):
    place, settings, message = MISFITS[name]
    with pytest.raises(UsageError, match=message):
        trainer(order_at("gs://b/r"), Settings(train=settings), place)


# A job that is followed.


@pytest.fixture
def api():
    if not FOLDER.exists():
        pytest.skip("needs Trainer's CRDs in ../shared/crds")
    with running_kubernetes(crds=("trainer",)) as server:
        yield server


@pytest.fixture
def controller(api, tmp_path):
    with running_trainer(api, tmp_path) as running:
        yield running


@pytest.fixture
def fit(api, controller, tmp_path):
    """Trains through a TrainJob whose pods run a script."""
    order = order_at(tmp_path / "run")
    mounts = {"volume_mounts": [{"name": "disk", "mountPath": str(tmp_path)}]}
    mounts["volumes"] = [{"name": "disk", "persistentVolumeClaim": {"claimName": "disk"}}]

    class Fit:
        name = job_name(order)
        exchange = Exchange(order.exchange)
        client = JobClient("films", api.kubeconfig(tmp_path))

        def __call__(self, script="", nodes=1, settings=None, **launch):
            controller.command = ["python", "-c", PROLOGUE + script + EPILOGUE, order.exchange]
            place = Place(nodes=nodes, task=mounts)
            job = TrainJob(place, LaunchSettings(**launch), self.client, poll=0.05)
            return job.train(order, settings or Settings())

        def job(self):
            return api.get("TrainJob", self.name, "films")

        def pods(self):
            return [pod for pod in api.all("Pod") if "terminated" not in str(pod["status"])]

    return Fit()


PROLOGUE = f"""
import json, os, pathlib, signal, sys, time
folder, node = pathlib.Path(sys.argv[1]), int(os.environ["PET_NODE_RANK"])
tries = folder / f"tries-{{node}}"
count = int(tries.read_text()) + 1 if tries.exists() else 1
tries.write_text(str(count))
def stop(number, frame):
    sys.exit(7)
signal.signal(signal.SIGTERM, stop)
def fail(message, code, consequence=False):
    error = dict(message=message, remedy="mend it", exit_code=code, is_consequence=consequence)
    (folder / f"error-{{node}}.json").write_text(json.dumps(error))
    sys.exit(code)
REPORT = {json.dumps(dataclasses.asdict(REPORT))!r}
"""
EPILOGUE = """
if node == 0:
    (folder / "report.json").write_text(REPORT)
"""


def wait_for(condition, seconds=30):
    for _ in range(20 * seconds):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("it never came to pass")


def when(condition, act):
    """Do something once a condition holds, while the test goes on."""

    def wait():
        wait_for(condition)
        act()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def test_the_report_comes_back_and_the_log_is_shown_once(fit, api, capfd):
    script = "print('hello from', node, flush=True); time.sleep(0.5); print('bye', flush=True)\n"
    assert fit(script, nodes=2) == REPORT
    said = capfd.readouterr().err.splitlines()
    assert [line for line in said if line in ("hello from 0", "bye", "hello from 1")] == [
        "hello from 0",
        "bye",
    ]
    # What is complete stays, for people to see.
    assert fit.job()["status"]["conditions"][0]["type"] == "Complete"


LINES = {
    "what the kubelet says in place of a log": [
        "unable to retrieve container logs for containerd://0123",
    ],
    "a day, which is no time": ["2026-11-30 it was"],
    "a node that is not on UTC": ["2026-11-30T01:02:03.123456789+02:00 hello"],
    "an empty line": ["2026-11-30T01:02:03.5Z "],
    "a progress bar": ["2026-11-30T01:02:03Z 1 %\r2 %\r"],
}
SHOWN = {"a node that is not on UTC": "hello", "an empty line": "", "a progress bar": "1 %\r2 %\r"}


@pytest.mark.parametrize("name", LINES)
def test_a_line_without_a_time_does_not_end_the_training(name, fit, api, monkeypatch, caplog):
    shown = []
    monkeypatch.setattr("components.train.trainjob._show", shown.append)

    def say():
        (pod,) = api.all("Pod")
        api.logs["films", pod["metadata"]["name"]] = LINES[name]

    thread = when(lambda: "running" in str(api.all("Pod")), say)
    assert fit("time.sleep(1)\n") == REPORT
    thread.join()
    if name in SHOWN:
        assert shown == [SHOWN[name]]
    else:
        assert shown == []
        assert caplog.text.count(LINES[name][0]) == 1


def test_progress_is_followed(fit, controller, caplog):
    caplog.set_level("INFO")
    script = """
from components.train.progress import Progress
Progress(1, 2).tell(0.5, {"loss": 0.25})
time.sleep(0.5)
"""
    fit(script)
    (told,) = controller.told
    assert told["progressPercentage"] == 75
    assert {"name": "loss", "value": "0.25"} in told["metrics"]
    assert "train: 75 %" in caplog.text


FAILURES = {
    "a wrong setting": (
        "fail('train.epochs is 0', 2)\n", 1, UsageError.exit_code, "train.epochs is 0",
    ),
    "a gate": ("fail('too few posters', 3)\n", 1, 3, "too few posters"),
    "the cause, not what followed from it": (
        "fail('damaged', 2) if node == 1 else time.sleep(9)\n", 2, 2, "damaged",
    ),
    "no word of it": ("sys.exit(1)\n", 1, 5, "failed .FailedJobs.*ended with 1"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAILURES)
def test_a_failure_is_told_and_nothing_is_left(name, fit):
    script, nodes, code, message = FAILURES[name]
    with pytest.raises(MarqueeError, match=message) as caught:
        fit(script, nodes=nodes)
    assert caught.value.exit_code == code
    assert caught.value.remedy
    wait_for(lambda: fit.job() is None)
    assert fit.pods() == []


def test_memory_that_runs_out_is_named(fit, controller):
    def kill():
        for _ in range(10):
            wait_for(lambda: running(controller, fit.name) or fit.job() is None)
            if fit.job() is None:
                return
            controller.kill(fit.name, 0, reason="OOMKilled")
            time.sleep(0.2)

    thread = when(lambda: running(controller, fit.name), kill)
    with pytest.raises(InfrastructureError, match=r"memory ran out while training.*OOMKilled"):
        fit("time.sleep(60)\n")
    thread.join()


def running(controller, name):
    job = controller.jobs.get(name)
    pods = job.pods if job else []
    return bool(pods) and all(pod.process and pod.process.poll() is None for pod in pods)


def test_a_preempted_pod_does_not_count_and_the_new_log_is_followed(fit, api, controller, capfd):
    script = """
print("try", count, flush=True)
if count == 1:
    time.sleep(60)
if count < 9:
    sys.exit(7)
"""

    def preempt():
        # Once its log was shown: some looks later.
        time.sleep(1)
        controller.preempt(fit.name, 0)

    thread = when(lambda: any(api.logs.values()), preempt)
    assert fit(script) == REPORT
    thread.join()
    assert controller.jobs[fit.name].failures == 0
    said = capfd.readouterr().err.splitlines()
    assert (said[0], said[-1]) == ("try 1", "try 9")


def test_a_wish_to_stop_deletes_the_job(fit, api, controller):
    # Not just running: only a pod that has said something knows what SIGTERM means.
    thread = when(lambda: any(api.logs.values()), lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(Stopped, match="training was stopped"):
        fit("print('ready', flush=True); time.sleep(60)\n")
    thread.join()
    wait_for(lambda: fit.job() is None)
    assert fit.pods() == []
    assert controller.jobs[fit.name].pods[0].process.returncode == 7


def test_a_wish_that_comes_between_two_questions_is_met(fit, monkeypatch):
    """What watches for a wish asks once a turn: the second answer may be another one."""
    answers, deleted = iter([False, True]), threading.Event()

    @contextmanager
    def asked():
        yield lambda: next(answers, True)

    @contextmanager
    def turns(act, seconds):
        if seconds < 1:
            while not act():
                pass
            assert deleted.is_set()
        yield

    monkeypatch.setattr("components.train.trainjob.postponed_stop", asked)
    monkeypatch.setattr("components.train.trainjob._meanwhile", turns)
    monkeypatch.setattr(TrainJob, "_begin", lambda *_: "")
    monkeypatch.setattr(JobClient, "delete", lambda *_: deleted.set())
    with pytest.raises(Stopped):
        fit()


def test_a_wish_to_stop_is_met_at_once_whatever_is_going_on(fit, controller, monkeypatch):
    """A step that is cancelled is killed a second later."""
    deleted_after = []

    def asked_in_the_middle_of_a_long_call(self, name):
        if not fit.job():
            return []
        os.kill(os.getpid(), signal.SIGTERM)
        began = time.monotonic()
        wait_for(lambda: "deletionTimestamp" in str(fit.job()), seconds=5)
        deleted_after.append(time.monotonic() - began)
        return []

    monkeypatch.setattr(JobClient, "pods", asked_in_the_middle_of_a_long_call)
    with pytest.raises(Stopped, match="training was stopped"):
        fit("time.sleep(60)\n")
    assert deleted_after[0] < 1
    wait_for(lambda: fit.job() is None)


def test_the_launcher_gives_signs_of_life_while_it_follows(fit, monkeypatch):
    monkeypatch.setattr("components.train.trainjob._BEAT_SECONDS", 0.05)
    heartbeats = set()

    def remember(exchange):
        heartbeats.add(exchange.heartbeat())
        if len(heartbeats) == 2:
            raise OSError("storage is away for a moment")
        beat(exchange)

    beat = Exchange.beat
    monkeypatch.setattr(Exchange, "beat", remember)
    assert fit("assert (folder / 'heartbeat.json').exists()\ntime.sleep(0.5)\n") == REPORT
    assert len(heartbeats) == 2
    last = fit.exchange.heartbeat()
    time.sleep(0.2)
    assert fit.exchange.heartbeat() == last


TRIES = {
    "the same step, tried again": ("run1-step-12", 0),
    "another run": ("run2-step-12", 1),
    "outside of Kubeflow": ("", 1),
    "later, as by a person": ("run1-step-12", 1),
    "other settings": ("run1-step-12", 1),
}
"""The pod of the second try, and how many jobs it makes."""


@pytest.mark.parametrize("name", TRIES)
def test_what_another_try_would_not_mend_is_not_tried_again(name, fit, controller, monkeypatch):
    pod, jobs = TRIES[name]
    script = "fail('damaged', 2)\n"
    monkeypatch.setenv("KFP_POD_NAME", "run1-step-11")
    with pytest.raises(MarqueeError, match="damaged"):
        fit(script)
    wait_for(lambda: fit.job() is None)
    before = controller.jobs.pop(fit.name)
    assert before.ended
    monkeypatch.setenv("KFP_POD_NAME", pod)
    if name.startswith("later"):
        monkeypatch.setattr("components.train.exchange._RETRIED_WITHIN", timedelta(0))
    settings = Settings(train={"seed": 1}) if name == "other settings" else None
    with pytest.raises(MarqueeError, match="damaged") as caught:
        fit(script, settings=settings)
    assert (caught.value.exit_code, len(controller.jobs)) == (2, jobs)


def test_what_another_try_may_mend_is_tried_again(fit, controller, monkeypatch):
    monkeypatch.setenv("KFP_POD_NAME", "run1-step-11")
    with pytest.raises(MarqueeError, match="no room"):
        fit("fail('no room', 5)\n")
    assert fit() == REPORT


HOLDS = {
    "an image that is not there": (
        {
            "containerStatuses": [
                {
                    "name": "node", "image": "marquee-train:9", "imageID": "", "ready": False,
                    "restartCount": 0,
                    "state": {"waiting": {"reason": "ImagePullBackOff", "message": "not found"}},
                }
            ]
        },
        r"ImagePullBackOff \(not found\)",
    ),
    "no node that is large enough": (
        {
            "conditions": [
                {
                    "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
                    "message": "0/3 nodes are available: insufficient nvidia.com/gpu",
                }
            ]
        },
        "insufficient nvidia.com/gpu",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HOLDS)
def test_pods_that_do_not_start_are_given_up_with_the_reason(name, fit, controller, caplog):
    controller.hold, message = HOLDS[name]
    with pytest.raises(InfrastructureError, match=f"did not start.*{message}") as caught:
        fit(start_minutes=0.02)
    assert "train.start_minutes" in caught.value.remedy
    # It was said before, while there was hope.
    assert sum("node-0-0" in record.getMessage() for record in caplog.records) == 1
    wait_for(lambda: fit.job() is None)


def test_what_forbids_pods_is_read_from_the_events(fit, api, controller):
    controller.jobs[fit.name] = None
    controller._follow = lambda document: None
    about = {"kind": "Job", "name": f"{fit.name}-node-0", "namespace": "films"}
    message = 'pods "x" is forbidden: exceeded quota'
    api.put(
        {
            "apiVersion": "v1", "kind": "Event", "involvedObject": about, "type": "Warning",
            "metadata": {"name": "e", "namespace": "films"}, "reason": "FailedCreate",
            "message": message,
        }
    )  # fmt: skip
    del controller.jobs[fit.name]
    thread = when(lambda: fit.job() and "deletionTimestamp" in fit.job()["metadata"],
                  lambda: _let_go(api, fit.name))  # fmt: skip
    with pytest.raises(InfrastructureError, match="exceeded quota"):
        fit(start_minutes=0.02)
    thread.join()


def test_warnings_come_in_the_order_of_their_time(fit, api):
    times = {
        "c": {"lastTimestamp": "2020-11-30T00:00:01Z"},
        "a": {"eventTime": "2020-11-30T00:00:02.000000Z"},
        "b": {"lastTimestamp": "2020-11-30T00:00:03Z", "eventTime": "2020-11-29T00:00:00.000000Z"},
        "0": {},
    }
    for name, time_of_it in times.items():
        about = {"kind": "Pod", "name": f"{fit.name}-node-0", "namespace": "films"}
        metadata = {"name": name, "namespace": "films"}
        api.put(
            {
                "apiVersion": "v1", "kind": "Event", "involvedObject": about, "type": "Warning",
                "metadata": metadata, "message": name, **time_of_it,
            }
        )  # fmt: skip
    assert [said[-1] for said in fit.client.warnings(fit.name)] == ["c", "a", "b", "0"]


def _let_go(api, name):
    job = api.get("TrainJob", name, "films")
    job["metadata"]["finalizers"] = []
    api.put(job)


def test_a_queue_may_hold_a_job_back_for_long(fit, api, controller):
    controller.hold = {}
    condition = {
        "type": "Suspended", "status": "True", "reason": "Suspended", "message": "queued",
        "lastTransitionTime": "2026-11-30T00:00:00Z",
    }  # fmt: skip

    def suspend():
        job = fit.job()
        api.put(job | {"status": {"conditions": [condition]}})
        time.sleep(2.5)
        controller.hold = None
        job = fit.job()
        api.put(job | {"status": {"conditions": [condition | {"status": "False"}]}})

    thread = when(lambda: fit.job() is not None, suspend)
    assert fit(start_minutes=0.02) == REPORT
    thread.join()


def begin_and_be_lost(fit, monkeypatch, script):
    """Begin a training, and be killed: nothing is cleaned up."""

    class Lost(BaseException):
        pass

    def killed(self, name):
        if fit.job():
            raise Lost
        return []

    with monkeypatch.context() as patched, pytest.raises(Lost):
        patched.setattr(JobClient, "pods", killed)
        patched.setattr(JobClient, "delete", lambda self, name: None)
        fit(script)


def test_a_job_that_runs_is_adopted_and_changes_its_owner(fit, api, controller, monkeypatch):
    monkeypatch.setenv("KFP_POD_NAME", "launcher-1")
    monkeypatch.setenv("KFP_POD_UID", "u1")
    script = "time.sleep(2)\n"
    begin_and_be_lost(fit, monkeypatch, script)
    (uid,) = {fit.job()["metadata"]["uid"]}
    assert fit.job()["metadata"]["ownerReferences"][0]["name"] == "launcher-1"
    monkeypatch.setenv("KFP_POD_NAME", "launcher-2")
    monkeypatch.setenv("KFP_POD_UID", "u2")
    assert fit(script) == REPORT
    job = fit.job()
    assert job["metadata"]["uid"] == uid
    assert [owner["name"] for owner in job["metadata"]["ownerReferences"]] == ["launcher-2"]


def identity(job):
    return job["metadata"]["uid"], job["metadata"]["annotations"][DIGEST]


def test_what_ended_while_nobody_followed_is_not_trained_again(fit, monkeypatch):
    monkeypatch.setenv("KFP_POD_NAME", "launcher-1")
    monkeypatch.setenv("KFP_POD_UID", "u1")
    assert fit() == REPORT
    before = identity(fit.job())
    monkeypatch.setenv("KFP_POD_NAME", "launcher-2")
    monkeypatch.setenv("KFP_POD_UID", "u2")
    assert fit("fail('trained again', 2)\n") == REPORT
    assert identity(fit.job()) == before
    assert fit.job()["metadata"]["ownerReferences"][0]["name"] == "launcher-2"


def test_a_job_that_ended_without_a_report_is_replaced(fit):
    assert fit() == REPORT
    uid, told = identity(fit.job())
    Path(fit.exchange.uri, "report.json").unlink()
    assert fit() == REPORT
    assert identity(fit.job())[0] != uid
    assert identity(fit.job())[1] == told


@pytest.mark.parametrize("runs", [True, False], ids=["that runs", "that has ended"])
def test_a_job_of_other_settings_is_replaced(runs, fit, controller, monkeypatch):
    if runs:
        begin_and_be_lost(fit, monkeypatch, "time.sleep(60)\n")
        wait_for(lambda: running(controller, fit.name))
    else:
        assert fit() == REPORT
    uid, told = identity(fit.job())
    assert fit(settings=Settings(train={"seed": 1})) == REPORT
    assert identity(fit.job())[0] != uid
    assert identity(fit.job())[1] != told


def test_a_pod_that_is_left_is_waited_for_before_another_training_begins(fit, api, monkeypatch):
    pod = {
        "apiVersion": "v1", "kind": "Pod", "spec": {"containers": [{"name": "node"}]},
        "metadata": {
            "name": "old", "namespace": "films",
            "labels": {"jobset.sigs.k8s.io/jobset-name": fit.name},
        },
    }  # fmt: skip
    api.put(pod)
    left = []

    def leave():
        time.sleep(0.3)
        left.append(fit.job())
        api.drop("Pod", "old", "films")

    thread = when(lambda: True, leave)
    assert fit() == REPORT
    thread.join()
    assert left == [None]
    api.put(pod)
    monkeypatch.setattr("components.train.trainjob._GONE_SECONDS", 0.2)
    with pytest.raises(InfrastructureError, match="or a pod of it, does not go away"):
        fit(settings=Settings(train={"seed": 1}))


def test_a_job_goes_with_the_pod_that_began_it(fit, api, controller, monkeypatch):
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "launcher", "namespace": "films"},
    }
    uid = api.put(pod)["metadata"]["uid"]
    monkeypatch.setenv("KFP_POD_NAME", "launcher")
    monkeypatch.setenv("KFP_POD_UID", uid)
    thread = when(
        lambda: running(controller, fit.name), lambda: api.drop("Pod", "launcher", "films")
    )
    with pytest.raises(InfrastructureError, match="was deleted by somebody"):
        fit("time.sleep(60)\n")
    thread.join()
    wait_for(lambda: fit.job() is None)


def test_an_api_server_that_is_away_for_a_moment_is_waited_for(fit, api, controller, caplog):
    thread = when(lambda: running(controller, fit.name), lambda: setattr(api, "fail", 4))
    assert fit("time.sleep(1)\n") == REPORT
    thread.join()
    assert api.fail == 0
    assert caplog.text.count("the API server answered 500") == 1


@pytest.mark.parametrize("script", ["", "fail('damaged', 2)\n"], ids=["report", "error"])
def test_storage_that_is_away_at_the_end_is_waited_for(script, fit, monkeypatch, caplog):
    left = ["report", "report", "error", "error"]

    def away(name):
        real = getattr(Exchange, name)

        def read(exchange, *arguments):
            if name in left:
                left.remove(name)
                raise OSError("storage is away")
            return real(exchange, *arguments)

        return read

    for name in ("report", "error"):
        monkeypatch.setattr(Exchange, name, away(name))
    if script:
        with pytest.raises(MarqueeError, match="damaged") as caught:
            fit(script)
        assert caught.value.exit_code == UsageError.exit_code
    else:
        assert fit() == REPORT
    assert "report" not in left
    assert caplog.text.count("storage is away") == 1


def test_what_a_process_says_is_told_even_if_storage_is_away_then(fit, monkeypatch, caplog):
    def away(*_):
        raise OSError("storage is away")

    monkeypatch.setattr(Exchange, "refuse", away)
    with pytest.raises(MarqueeError, match="damaged") as caught:
        fit("fail('damaged', 2)\n")
    assert caught.value.exit_code == UsageError.exit_code
    assert "could not forbid another try" in caplog.text


def test_an_older_trainers_stop_is_not_taken_for_the_end(fit):
    """A pod that was preempted has left its word, and another one is to blame."""
    script = "fail('stopped in epoch 2', 7) if count == 1 else fail('damaged', 2)\n"
    with pytest.raises(MarqueeError, match="damaged"):
        fit(script)


def test_a_job_that_fails_after_the_training_is_no_failure(fit, caplog):
    script = "(folder / 'report.json').write_text(REPORT)\nsys.exit(2)\n"
    assert fit(script) == REPORT
    assert "had ended by then" in caplog.text


def test_a_complete_job_without_a_report_is_an_error(fit):
    with pytest.raises(InfrastructureError, match="left no report"):
        fit("sys.exit(0)\n")


RIGHTS = {
    ("create", "trainjobs"): "verb 'create' on trainjobs.trainer.kubeflow.org",
    ("get", "trainjobs"): "verb 'get' on trainjobs.trainer.kubeflow.org",
    ("list", "pods"): "verb 'list' on pods",
    ("get", "pods/log"): "verb 'get' on pods/log",
}


@pytest.mark.parametrize("right", RIGHTS, ids=lambda right: " ".join(right))
def test_a_missing_right_is_named(right, fit, api):
    api.refuse.add(right)
    with pytest.raises(UsageError, match="this account may not") as caught:
        fit("time.sleep(30)\n")
    assert RIGHTS[right] in caught.value.remedy


def test_a_missing_runtime_is_named(fit, controller):
    controller.runtimes.clear()
    with pytest.raises(UsageError, match="no ClusterTrainingRuntime marquee-cpu") as caught:
        fit()
    assert "helm/marquee" in caught.value.remedy


def test_a_cluster_without_trainer_says_so(tmp_path):
    with running_kubernetes(crds=()) as api:
        client = JobClient("films", api.kubeconfig(tmp_path))
        job = TrainJob(Place(), LaunchSettings(), client, poll=0.05)
        with pytest.raises(UsageError, match="has no TrainJobs") as caught:
            job.train(order_at(f"memory://{tmp_path.name}"), Settings())
    assert "install Kubeflow Trainer" in caught.value.remedy
