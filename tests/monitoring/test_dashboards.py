"""Dashboards: readable, linked, and every query is one that Prometheus takes and can answer."""

import json
import re
import subprocess
from itertools import combinations

import pytest
import yaml
from helpers import ROOT, require_tool
from promql import complaints

FILES = sorted((ROOT / "monitoring/dashboards").glob("*.json"))
RECORDED = {
    rule["record"]
    for path in (ROOT / "monitoring/alerts").glob("*.yaml")
    for group in yaml.safe_load(path.read_text())["spec"]["groups"]
    for rule in group["rules"]
    if "record" in rule
}
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
DOCS = "https://marquee.example/docs/"
BUILT_IN = {"__rate_interval": "5m", "datasource": ""}


def stem(path):
    return path.stem


@pytest.fixture(params=FILES, ids=stem)
def board(request):
    return json.loads(request.param.read_text())


def charts(board):
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def queries(board):
    return [target["expr"] for panel in charts(board) for target in panel["targets"]]


def test_there_is_one_for_each_concern():
    assert [path.stem for path in FILES] == ["drift", "rollout", "serving", "training"]
    boards = [json.loads(path.read_text()) for path in FILES]
    assert {board["uid"] for board in boards} == {f"marquee-{path.stem}" for path in FILES}
    assert len({board["title"] for board in boards}) == len(boards)


def test_it_asks_the_data_source_that_is_chosen(board):
    source = board["templating"]["list"][0]
    assert (source["name"], source["type"], source["query"]) == (
        "datasource",
        "datasource",
        "prometheus",
    )
    for panel in charts(board):
        assert panel["datasource"] == SOURCE
        assert all(target["datasource"] == SOURCE for target in panel["targets"])
    assert all(one["datasource"] == SOURCE for one in board["templating"]["list"][1:])


def test_panels_say_what_they_show(board):
    assert board["tags"] == ["marquee"]
    ids = [panel["id"] for panel in board["panels"]]
    assert len(set(ids)) == len(ids)
    for panel in charts(board):
        assert panel["title"]
        assert panel["description"].endswith(".")
        defaults = panel["fieldConfig"]["defaults"]
        assert defaults["unit"]
        assert defaults["thresholds"]["steps"]
        refs = [target["refId"] for target in panel["targets"]]
        assert len(set(refs)) == len(refs)
        if panel["type"] == "timeseries":
            assert panel["options"]["legend"]["showLegend"]
            assert all(target["legendFormat"] for target in panel["targets"])


def test_panels_do_not_overlap(board):
    places = [panel["gridPos"] for panel in board["panels"]]
    assert all(p["x"] >= 0 and p["x"] + p["w"] <= 24 for p in places)
    for one, other in combinations(places, 2):
        apart = (
            one["x"] + one["w"] <= other["x"]
            or other["x"] + other["w"] <= one["x"]
            or one["y"] + one["h"] <= other["y"]
            or other["y"] + other["h"] <= one["y"]
        )
        assert apart, (one, other)


def test_links_lead_somewhere(board):
    kinds = {link["type"]: link for link in board["links"]}
    assert kinds["dashboards"]["tags"] == ["marquee"]
    urls = [kinds["link"]["url"]]
    urls += [link["url"] for panel in charts(board) for link in panel.get("links", ())]
    assert all(url.startswith(DOCS) for url in urls)
    assert [url for url in urls if not (ROOT / "docs" / url.removeprefix(DOCS)).exists()] == []


def test_queries_read_what_is_exported(board, exported):
    known = exported | {name: [{}] for name in RECORDED}
    asked = queries(board)
    for variable in board["templating"]["list"][1:]:
        metric, label = re.fullmatch(
            r"label_values\((.*), (\w+)\)", variable["definition"]
        ).groups()
        assert variable["query"]["query"] == variable["definition"]
        asked.append(f"sum by ({label}) ({metric})")
    assert [found for query in asked for found in complaints(query, known)] == []


def test_prometheus_takes_the_queries(board, tmp_path):
    tool = require_tool("promtool", "prometheus")
    variables = {one["name"]: "x" for one in board["templating"]["list"]} | BUILT_IN
    rules = [
        {
            "record": f"query:{number}",
            "expr": re.sub(r"\$(\w+)", lambda found: variables[found[1]], query),
        }
        for number, query in enumerate(queries(board))
    ]
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    result = subprocess.run(
        [tool, "check", "rules", file], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
