"""What the chart keeps copies of is fresh, and every value is described."""

import pytest
import yaml
from helpers import ROOT

from helm import generate, golden


def stale():
    return golden.stale(generate.generated(), generate.there())


def renew():
    golden.renew(generate.generated(), generate.there())


@pytest.fixture
def chart(tmp_path, monkeypatch):
    """Generate into a copy of the chart's values, beside this project's monitoring/."""
    folder = tmp_path / "marquee"
    folder.mkdir()
    for name in ("Chart.yaml", "values.yaml"):
        (folder / name).write_text((ROOT / "helm/marquee" / name).read_text())
    monkeypatch.setattr(generate, "CHART", folder)
    renew()
    return folder


def test_the_chart_has_the_latest_alerts_dashboards_and_readme():
    names = [str(path.relative_to(ROOT)) for path in stale()]
    assert names == [], "run `make manifests`"


def test_what_is_written_is_fresh(chart):
    assert stale() == []
    assert len(list(chart.glob("files/*/*"))) == 8


@pytest.mark.parametrize("name", ["README.md", "files/alerts/drift.yaml"])
@pytest.mark.parametrize("how", ["changed", "missing"])
def test_what_is_stale_is_named(chart, name, how):
    path = chart / name
    path.write_text("old") if how == "changed" else path.unlink()
    assert stale() == [path]


def test_what_monitoring_has_no_longer_goes(chart):
    path = chart / "files/alerts/old.yaml"
    path.write_text("kind: PrometheusRule")
    assert stale() == [path]
    renew()
    assert not path.exists()


def test_the_readme_shows_defaults_of_all_kinds(chart):
    readme = (chart / "README.md").read_text()
    assert "| `images.prefix` | `marquee` |" in readme
    assert "| `images.tag` | none |" in readme
    assert "| `training.gpu.tolerations` | `[{" in readme


def test_every_value_is_described():
    text = (ROOT / "helm/marquee/values.yaml").read_text()
    described = {name for name, _ in generate._described(text)}
    left = [name for name in _leaves(yaml.safe_load(text)) if not _covered(name, described)]
    assert left == []


def _leaves(values, path=()):
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, (*path, key))
        else:
            yield ".".join((*path, key))


def _covered(name, described):
    words = name.split(".")
    return any(".".join(words[:count]) in described for count in range(1, len(words) + 1))
