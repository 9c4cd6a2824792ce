"""The Katib Experiment: what Katib's webhook and Trainer say to it, and that its trial runs."""

import copy
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from crds import FOLDER, problem_of
from kubeflow_katib_api.models import V1beta1Experiment
from pydantic import ValidationError
from typer.testing import CliRunner

from components.train.architectures import NAMES
from components.train.experiment import METRIC, Trials, experiment, metric_line
from components.train.order import Order
from components.train.search import SPACES, SearchSpace
from components.train.tune import _suggest
from marquee.cli.tune import app
from marquee.errors import UsageError
from marquee.settings import LicenceSettings, Settings

GOLDEN = Path(__file__).with_name("experiment.yaml")
COLLECTED = re.compile(r"([\w|-]+)\s*=\s*([+-]?\d*(\.\d+)?([Ee][+-]?\d+)?)")
"""What Katib's collector reads from a line where no other format is given."""
PLACEHOLDER = re.compile(r"\$\{trialParameters\.(.*?)\}")


def order(architecture="vgg16", place="gs://bucket/runs/1", **changes):
    values = {
        "catalog_uri": f"{place}/catalog",
        "split_uri": f"{place}/balance",
        "architecture": architecture,
        "weights": "torchvision",
        "bundle_uri": "",
        "checkpoints_uri": f"{place}/tuning/t",
        **changes,
    }
    return Order(**values)


def build(architecture="vgg16", settings=None, trials=None, **changes):
    space = SearchSpace.of(architecture, settings or Settings())
    return experiment(order(architecture, **changes), space, trials or Trials(name="t", count=20))


def problems_of(document):
    """Say what Katib's webhook would: its schema lets everything pass."""
    spec = document["spec"]
    template = spec["trialTemplate"]
    parameters = {item["name"] for item in spec["parameters"]}
    named = {item["name"]: item["reference"] for item in template["trialParameters"]}
    used = set(PLACEHOLDER.findall(json.dumps(template["trialSpec"])))
    told = {ref for ref in named.values() if not ref.startswith("${trialSpec.")}
    found = []
    try:
        known = V1beta1Experiment.from_dict(copy.deepcopy(document)).to_dict()
    except ValidationError as error:
        return [str(error)]
    if known != document:
        found.append("Katib's model knows no such field")
    if set(named) != used:
        found.append(f"placeholders and parameters differ: {set(named) ^ used}")
    if told != parameters:
        found.append(f"trials do not take {told ^ parameters}")
    if {"name", "namespace"} & set(template["trialSpec"].get("metadata", {})):
        found.append("the trial has a name")
    if not 0 < spec["parallelTrialCount"] <= spec["maxTrialCount"]:
        found.append("too many at a time")
    if spec["maxFailedTrialCount"] > spec["maxTrialCount"]:
        found.append("more may fail than there are")
    for item in spec["parameters"]:
        space = item["feasibleSpace"]
        if ("list" in space) == ("min" in space) or ("list" in space) != (
            item["parameterType"] in ("categorical", "discrete")
        ):
            found.append(f"the space of {item['name']} is none")
    return found


def as_katib_makes(document, values):
    """Give a trial's TrainJob with values in place, named as Katib does."""
    template = document["spec"]["trialTemplate"]
    text = json.dumps(template["trialSpec"])
    for item in template["trialParameters"]:
        value = values.get(item["reference"], "t-abcd1234")
        text = text.replace(f"${{trialParameters.{item['name']}}}", value)
    job = json.loads(text)
    job["metadata"]["name"] = "t-abcd1234"
    return job


@pytest.mark.parametrize("architecture", NAMES)
@pytest.mark.parametrize("claim", ["", "marquee-storage"])
def test_katib_and_trainer_take_it(architecture, claim):
    if not FOLDER.is_dir():
        pytest.skip("needs the CRDs of ../shared/crds")
    place = "/mnt/marquee/runs/1" if claim else "s3://bucket/runs/1"
    trials = Trials(name="tune-it", count=20, parallel=4, storage_pvc=claim, namespace="films")
    document = build(architecture, trials=trials, place=place)
    assert problems_of(document) == []
    assert problem_of(document) == ""
    job = as_katib_makes(document, {})
    assert problem_of(job) == ""
    assert not PLACEHOLDER.search(json.dumps(job))
    variables = job["spec"]["trainer"].get("env", [])
    mounted = "persistentVolumeClaim" in json.dumps(job["spec"].get("runtimePatches", []))
    assert mounted == ({"name": "MARQUEE_CACHE", "value": "/mnt/marquee/cache"} in variables)
    assert mounted == bool(claim)


def broken(change):
    document = build()
    change(document["spec"])
    return problems_of(document)


@pytest.mark.parametrize(
    "change",
    {
        "a field that is none": lambda spec: spec.update(maxTrials=3),
        "a parameter that no trial takes": lambda spec: spec["parameters"].append(
            {**spec["parameters"][0], "name": "other"}
        ),
        "a placeholder without a parameter": lambda spec: spec["trialTemplate"][
            "trialParameters"
        ].pop(),
        "a number": lambda spec: spec["parameters"][0]["feasibleSpace"].update(min=1e-4),
        "too many at a time": lambda spec: spec.update(parallelTrialCount=99),
        "list and bounds": lambda spec: spec["parameters"][0]["feasibleSpace"].update(list=["1"]),
        "a name": lambda spec: spec["trialTemplate"]["trialSpec"]["metadata"].update(name="x"),
    }.values(),
)
def test_what_katib_would_refuse_is_noticed(change):
    assert broken(change)


def test_the_document_is_the_known_one():
    words = ["manifest", "--arch", "vgg16", "--run", "s3://bucket/runs/1", "--trials", "24"]
    words += ["--runtime", "marquee-gpu", "--set", "train.vgg16.patience=6"]
    result = CliRunner().invoke(app, words, catch_exceptions=False, env={"MARQUEE_STORAGE_PVC": ""})
    again = f"marquee tune {' '.join(words)} > tests/components/train/{GOLDEN.name}"
    assert result.output == GOLDEN.read_text(), f"if it is meant to be: {again}"


class Recorder:
    """Stands for a trial of Optuna, and writes down what it is asked."""

    def __init__(self):
        self.asked = {}

    def suggest_float(self, name, low, high, log):
        self.asked[name] = ("double", low, high, log)

    def suggest_int(self, name, low, high):
        self.asked[name] = ("int", low, high, False)

    def suggest_categorical(self, name, choices):
        self.asked[name] = ("categorical", *choices)


@pytest.mark.parametrize("architecture", NAMES)
def test_katib_searches_what_optuna_does(architecture):
    settings = Settings(tune={"custom_cnn": {"patience": {"low": 2, "high": 9}}})
    optuna = Recorder()
    for parameter in SearchSpace.of(architecture, settings).parameters:
        _suggest(optuna, parameter)
    katib = {}
    for item in build(architecture, settings)["spec"]["parameters"]:
        space, kind = item["feasibleSpace"], item["parameterType"]
        number = int if kind == "int" else float
        katib[item["name"]] = (
            (kind, *map(float, space["list"]))
            if kind == "categorical"
            else (
                kind,
                number(space["min"]),
                number(space["max"]),
                space.get("distribution") == "logUniform",
            )
        )
    assert katib == optuna.asked
    assert set(katib) == ({"patience"} if architecture == "custom_cnn" else
                          {item.name for item in SPACES[architecture]})  # fmt: skip


def test_what_is_set_here_is_set_there():
    settings = Settings(
        train={"epochs": 9, "dropout": 0.4, "vgg16": {"mirror": False}},
        licence=LicenceSettings(tmdb_agreement="no 17 of 2026"),
    )
    job = as_katib_makes(build(settings=settings), {})
    assert {item["name"]: item["value"] for item in job["spec"]["trainer"]["env"]} == {
        "MARQUEE_TRAIN__VGG16__EPOCHS": "9",
        "MARQUEE_TRAIN__VGG16__MIRROR": "false",
        "MARQUEE_LICENCE__TMDB_AGREEMENT": "no 17 of 2026",
    }  # dropout is tuned


REFUSED = {
    "a disk of this machine": ({"place": "/data/runs/1"}, {}, "this machine's disk"),
    "below no mount": ({"place": "/data/runs/1"}, {"storage_pvc": "claim"}, "this machine's disk"),
    "a space": ({"place": "gs://bucket/my runs"}, {}, "shell"),
    "a dollar": ({"weights": "gs://bucket/$weights"}, {}, "shell"),
    "a semicolon": ({"weights": "gs://bucket/w;rm"}, {}, "shell"),
    "a long name": ({}, {"name": "t" * 32}, "no name for an experiment"),
    "a capital": ({}, {"name": "Tune"}, "no name for an experiment"),
    "too many at a time": ({}, {"parallel": 30}, "parallel is 30"),
}


@pytest.mark.parametrize(("where", "how", "said"), REFUSED.values(), ids=REFUSED)
def test_what_would_fail_on_the_cluster_is_refused(where, how, said):
    with pytest.raises(UsageError, match=said):
        build(trials=None if not how else Trials(**{"name": "t", "count": 20, **how}), **where)


def test_a_line_of_a_metric_is_collected():
    time, rest = metric_line(0.38125).split(" ", 1)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", time)
    assert [match[:2] for match in COLLECTED.findall(rest)] == [(METRIC, "0.381250")]


def test_a_trial_runs_as_katib_would_run_it(drawn_catalog, drawn_split, tmp_path):
    """The very command, in the shell that Katib wraps it in, and read as its collector reads."""
    settings = Settings(train={"height": 32, "width": 16, "epochs": 2, "workers": 0})
    place = {
        "catalog_uri": f"file://{drawn_catalog}",
        "split_uri": f"file://{drawn_split}",
        "checkpoints_uri": f"file://{tmp_path}/checkpoints",
        "weights": "random",
    }
    space = SearchSpace.of("custom_cnn", settings)
    with pytest.MonkeyPatch.context() as patch:
        # Pods would not see these places; this machine does.
        patch.setattr("components.train.experiment._check_places", lambda *_: None)
        document = experiment(order("custom_cnn", **place), space, Trials(name="t", count=5))
    middle = {
        item["name"]: item["feasibleSpace"].get("max") or item["feasibleSpace"]["list"][0]
        for item in document["spec"]["parameters"]
    }
    trainer = as_katib_makes(document, middle)["spec"]["trainer"]
    assert trainer["command"][0] == "marquee"
    command = [sys.executable, "-m", *trainer["command"]]
    log = tmp_path / "metrics.log"
    wrapped = f"{' '.join(command)} 1>{log} 2>&1 && echo completed > {tmp_path}/$$.pid"
    environment = os.environ | {item["name"]: item["value"] for item in trainer["env"]}
    environment["KUBERNETES_SERVICE_HOST"] = "10.0.0.1"  # logs are JSON there
    done = subprocess.run(["sh", "-c", wrapped], env=environment, check=False, timeout=300)
    assert done.returncode == 0, log.read_text()
    assert next(tmp_path.glob("*.pid")).read_text() == "completed\n"
    lines = [line for line in log.read_text().splitlines() if METRIC in line]
    found = [float(m[1]) for line in lines for m in COLLECTED.findall(line) if m[0] == METRIC]
    assert len(found) == 3
    assert found[-1] == pytest.approx(max(found[:-1]), abs=1e-5)
    assert all(0 < value < 1 for value in found)
    assert not list((tmp_path / "checkpoints").iterdir())
