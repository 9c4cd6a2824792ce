"""The monitoring pipeline: prediction records in, drift reports and requests to train out."""

from typing import Dict  # noqa: UP035 - KFP reads the annotation

from kfp import dsl

from pipelines.steps import add_kubeflow, add_webhook, limits, make_task

NAME = "marquee-monitoring"


@dsl.pipeline(
    name=NAME,
    description="Prediction records in, drift reports and requests to train out.",
    pipeline_config=limits(days=1),
)
def monitoring(
    run_uri: str,
    records_uri: str,
    registry_uri: str = "",
    bundle_uri: str = "",
    label_set: str = "all18",
    truth: str = "",
    retrain: bool = False,
    training: Dict[str, str] = {},  # noqa: B006, UP006 - KFP wants a literal default
    overrides: Dict[str, str] = {},  # noqa: B006, UP006 - KFP wants a literal default
) -> None:
    """Report on every window that is due; ask for training if the model is less often right.

    Args:
        run_uri: Where all reports are kept, the same in every run, such as gs://bucket/monitoring.
        records_uri: The prediction records, such as gs://bucket/records.
        registry_uri: The model registry; its champion is watched.
        bundle_uri: The bundle to watch instead of a champion.
        label_set: The champion's label set - all18, study4 or subgenres.
        truth: A CSV file of films' genres (film_id, genres joined by |), once they are known.
        retrain: Ask for training when the model is less often right.
        training: The training's parameters, such as {"source": "folder", "path": "gs://bucket/new"}.
        overrides: Settings by dotted name, such as {"monitor.window_hours": "168"}.
    """
    told = make_task("notify", run_uri=run_uri)
    add_webhook(told)
    with dsl.ExitHandler(told, name="run"):
        monitored = make_task(
            "monitor",
            run_uri=run_uri,
            records_uri=records_uri,
            registry_uri=registry_uri,
            bundle_uri=bundle_uri,
            label_set=label_set,
            truth=truth,
            overrides=overrides,
        )
        with dsl.If(retrain == True, name="if-retrain"):  # noqa: E712 - KFP's syntax
            asked = make_task(
                "retrain",
                run_uri=run_uri,
                registry_uri=registry_uri,
                training=training,
                overrides=overrides,
            ).after(monitored)
            add_kubeflow(asked)
