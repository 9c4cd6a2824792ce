"""What the chart makes of values: every object is valid, and all of them fit together."""

import pytest
import yaml
from chart import CHART, NAMESPACE, render, run_tool
from chart_cases import CASES
from crds import FOLDER
from rules import faults

pytestmark = pytest.mark.skipif(not FOLDER.exists(), reason="needs ../shared/crds")


@pytest.mark.parametrize("name", CASES)
def test_the_objects_are_valid_and_fit_together(name):
    assert faults(render(CASES[name])) == []


@pytest.mark.parametrize("name", ["defaults", "everything", "nothing"])
def test_helm_finds_nothing_to_lint(name, tmp_path):
    (tmp_path / "values.yaml").write_text(yaml.safe_dump(CASES[name]))
    code, out, said = run_tool(
        "helm", "lint", "--strict", CHART, "-n", NAMESPACE, "-f", tmp_path / "values.yaml"
    )
    assert code == 0, out + said
