"""A policy is checked when it is read."""

import pytest

from components.rollout.policy import Policy, read_policy
from marquee.errors import UsageError


def test_defaults_are_a_policy():
    assert Policy().steps == [5, 25, 50, 100]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("p.toml", 'steps = [10, 100]\nstep_seconds = 60\ndoubt = "ask"\n'),
        ("p.json", '{"steps": [10, 100], "step_seconds": 60, "doubt": "ask"}'),
    ],
)
def test_a_file_names_what_differs(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    policy = read_policy(str(tmp_path / name))
    assert (policy.steps, policy.step_seconds, policy.doubt) == ([10, 100], 60, "ask")
    assert policy.min_samples == Policy().min_samples


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("steps = [5, 25]", "policy.steps"),
        ("steps = []", "policy.steps"),
        ("steps = [25, 5, 100]", "policy.steps"),
        ("steps = [0, 100]", "policy.steps"),
        ("steps = [100]", "compared with the stable model"),
        ("error_rate = 0", "policy.error_rate"),
        ("steps = [5.5, 100]", "policy.steps"),
        ('steps = "5,100"', "policy.steps"),
        ('doubt = "hope"', "policy.doubt"),
        ("error_rate = 0.9", "policy.error_rate"),
        ("latency_ratio = 0.5", "policy.latency_ratio"),
        ("speed = 3", "unknown setting policy.speed"),
        ("steps = [", "damaged"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, text, message):
    (tmp_path / "p.toml").write_text(text)
    with pytest.raises(UsageError) as caught:
        read_policy(str(tmp_path / "p.toml"))
    assert message in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UsageError, match="no policy"):
        read_policy(str(tmp_path / "none.toml"))


def test_whole_numbers_may_come_as_floats():
    """KFP makes floats of the numbers in a dict."""
    assert Policy(steps=[5.0, 100.0]).steps == [5, 100]


@pytest.mark.parametrize(
    ("stable_ms", "slack", "allowed"), [(1.0, 1.0, 2.0), (10.0, 1.0, 15.0), (1.0, 0.0, 1.5)]
)
def test_a_quick_model_has_some_slack(stable_ms, slack, allowed):
    assert Policy(latency_slack_ms=slack).allowed_latency(stable_ms) == allowed
