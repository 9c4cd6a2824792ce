"""Alerts: Prometheus' own tool runs each until it fires and until it does not; what they read is
exported; each has a runbook, whose commands exist."""

import re
import shlex
import subprocess

import pytest
import typer
import yaml
from crds import FOLDER, problem_of
from helpers import ROOT, require_tool
from promql import complaints

from marquee.cli import app

FILES = sorted((ROOT / "monitoring/alerts").glob("*.yaml"))
CASES = sorted((ROOT / "tests/monitoring/alerts").glob("*.yaml"))
RUNBOOKS = sorted((ROOT / "docs/runbooks").glob("*.md"))
BASE = "https://marquee.example/docs/runbooks"
SEVERITIES = ("critical", "warning", "info")
OBJECTS = {path.stem: yaml.safe_load(path.read_text()) for path in FILES}
RULES = [
    rule
    for document in OBJECTS.values()
    for group in document["spec"]["groups"]
    for rule in group["rules"]
]
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}
RECORDED = {rule["record"] for rule in RULES if "record" in rule}


def stem(path):
    return path.stem


@pytest.fixture
def promtool(tmp_path):
    """Runs promtool where the rules lie in `rules/` and the cases beside it."""
    tool = require_tool("promtool", "prometheus")
    (tmp_path / "rules").mkdir()
    for name, document in OBJECTS.items():
        (tmp_path / f"rules/{name}.yaml").write_text(yaml.safe_dump(document["spec"]))
    for path in CASES:
        (tmp_path / path.name).write_text(path.read_text())

    def run(*arguments):
        result = subprocess.run(
            [tool, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        return result.returncode, result.stdout + result.stderr

    return run


@pytest.mark.parametrize("path", FILES, ids=stem)
def test_prometheus_takes_the_rules(promtool, path):
    code, said = promtool("check", "rules", "--lint-fatal", f"rules/{path.name}")
    assert code == 0, said


@pytest.mark.skipif(not FOLDER.exists(), reason="needs ../shared/crds")
@pytest.mark.parametrize("path", FILES, ids=stem)
def test_the_objects_are_valid(path):
    document = yaml.safe_load(path.read_text())
    assert problem_of(document) == ""
    document["spec"]["groups"][0]["rules"][0]["runbook"] = "unknown"
    assert "runbook" in problem_of(document)


def test_the_files_can_be_applied_in_one_stream():
    stream = "".join(path.read_text() for path in FILES)
    assert list(yaml.safe_load_all(stream)) == list(OBJECTS.values())


@pytest.mark.parametrize("path", CASES, ids=stem)
def test_alerts_fire_when_they_should(promtool, path):
    code, said = promtool("test", "rules", path.name)
    assert code == 0, said


def test_each_alert_is_seen_to_fire_and_to_rest():
    fired, rested = set(), set()
    for path in CASES:
        for case in yaml.safe_load(path.read_text())["tests"]:
            for check in case["alert_rule_test"]:
                (fired if check["exp_alerts"] else rested).add(check["alertname"])
    assert fired == rested == set(ALERTS)


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_what_it_is_about_and_what_to_do(name):
    rule = ALERTS[name]
    assert rule["labels"].keys() == {"severity"}
    assert rule["labels"]["severity"] in SEVERITIES
    notes = rule["annotations"]
    assert notes.keys() == {"summary", "description", "runbook_url"}
    assert notes["runbook_url"] == f"{BASE}/{name}.md"
    assert "{{" not in notes["summary"]


def test_each_runbook_is_of_an_alert():
    assert {path.stem for path in RUNBOOKS} == set(ALERTS)


def test_the_docs_list_the_alerts_with_their_severities():
    text = (ROOT / "docs/alerts.md").read_text()
    listed = dict(re.findall(r"\| \[(\w+)\]\(runbooks/\1\.md\) \| (\w+) \|", text))
    assert listed == {name: rule["labels"]["severity"] for name, rule in ALERTS.items()}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.get("alert") or rule["record"])
def test_rules_read_what_is_exported(exported, rule):
    recorded = {name: [{}] for name in RECORDED}
    assert complaints(rule["expr"], exported | recorded) == []


@pytest.mark.parametrize(
    ("expression", "wrong"),
    [
        ("marquee_made_up > 0", ["metric marquee_made_up"]),
        ("sum by (made_up) (rate(marquee_requests_total[5m]))", ["label made_up"]),
        (
            'marquee_requests_total{outcome="made up"}',
            ["series marquee_requests_total of [('outcome', '=', 'made up')]"],
        ),
        (
            'marquee_requests_total{stage=~"in.*"}',
            ["series marquee_requests_total of [('stage', '=~', 'in.*')]"],
        ),
        ('1e3 * marquee_queue_posters{namespace="a"} offset 1d and on () up == 0', []),
        ('marquee_drift_causes{kind!~"a|b", model_version="$model_version"}', []),
    ],
)
def test_what_nobody_exports_is_noticed(exported, expression, wrong):
    assert complaints(expression, exported) == wrong


@pytest.mark.parametrize("path", RUNBOOKS, ids=stem)
def test_runbooks_are_true(exported, path):
    text = path.read_text()
    assert text.startswith(f"# {path.stem}\n")
    recorded = {name: [{}] for name in RECORDED}
    for query in re.findall(r"```promql\n(.*?)```", text, re.DOTALL):
        assert complaints(query, exported | recorded) == []
    for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            if line.startswith("marquee "):
                check_command(shlex.split(line)[1:])
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    for said in re.findall(r"`marquee ([^`]+)`", prose):
        check_command(shlex.split(said), whole=False)
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
        assert (path.parent / target).exists(), target


def check_command(words, whole=True):
    """Find a command, its options and (`whole`) all it needs in the command line's own parser."""
    command = typer.main.get_command(app)
    while hasattr(command, "commands"):
        command = command.commands[words.pop(0)]
    known = {name for parameter in command.params for name in parameter.opts}
    assert {word for word in words if word.startswith("-")} <= known, words
    if whole:
        command.make_context("marquee", list(words))


def test_a_command_that_is_not_there_is_noticed():
    with pytest.raises(KeyError):
        check_command(["rollout", "undo", "poster-genre"])
    with pytest.raises(AssertionError):
        check_command(["rollout", "status", "poster-genre", "--verbose"])
    with pytest.raises(Exception, match="reason"):
        check_command(["registry", "promote", "REGISTRY", "VERSION"])
