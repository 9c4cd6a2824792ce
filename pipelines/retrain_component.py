"""The retraining step as Kubeflow Pipelines sees it."""


def retrain(
    run_uri: str, registry_uri: str, training: dict[str, str], overrides: dict[str, str]
) -> str:
    """Ask for training if the last reports give reason to; give what was asked for and why."""
    from marquee import step
    from pipelines import retraining

    with step.step("retrain", run_uri) as layout:
        given = {"registry_uri": registry_uri} | training
        return retraining.consider_reports(layout, retraining.launcher(layout), given, overrides)
