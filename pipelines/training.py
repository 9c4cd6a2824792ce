"""The training pipeline: posters in, registered models out."""

from collections.abc import Mapping
from typing import Any, Dict  # noqa: UP035 - KFP reads the annotation

from kfp import dsl

from pipelines.steps import SPANS_AT_A_TIME, add_tmdb_token, add_webhook, limits, make_task

NAME = "marquee-training"
ARCHITECTURES: tuple[str, ...] = ("custom_cnn", "vgg16")
"""Those that the pipeline trains; each has a parameter that switches it off."""


def _train(
    architecture: str,
    wanted: Any,
    *,
    run_uri: Any,
    split_digest: Any,
    weights: Any,
    place: Mapping[str, Any],
    registry_uri: Any,
    overrides: Any,
) -> Any:
    """Train, evaluate and register an architecture; give its version, empty if it is not wanted."""
    with dsl.If(wanted == True, name=f"if-{architecture}"):  # noqa: E712 - KFP's syntax
        trained = make_task(
            "train",
            f"train-{architecture}",
            run_uri=run_uri,
            split_digest=split_digest,
            architecture=architecture,
            weights=weights,
            **place,
            overrides=overrides,
        )
        version = trained.outputs["Output"]
        evaluated = make_task(
            "evaluate",
            f"evaluate-{architecture}",
            run_uri=run_uri,
            architecture=architecture,
            bundle_version=version,
        )
        registered = make_task(
            "register",
            f"register-{architecture}",
            run_uri=run_uri,
            registry_uri=registry_uri,
            architecture=architecture,
            bundle_version=version,
            macro_f1=evaluated.outputs["Output"],
        )
    with dsl.Else(name=f"else-{architecture}"):
        skipped = make_task("skip", f"skip-{architecture}")
    return dsl.OneOf(registered.outputs["Output"], skipped.outputs["Output"])


@dsl.pipeline(
    name=NAME,
    description="Posters in, evaluated and registered genre models out.",
    pipeline_config=limits(days=7),
)
def training(
    run_uri: str,
    source: str = "folder",
    path: str = "",
    limit: int = 0,
    imdb: str = "",
    label_set: str = "all18",
    custom_cnn: bool = True,
    vgg16: bool = True,
    weights: str = "torchvision",
    nodes: int = 1,
    gpus: int = 0,
    gpu_type: str = "any",
    storage_class: str = "",
    registry_uri: str = "",
    rollout_to: str = "",
    overrides: Dict[str, str] = {},  # noqa: B006, UP006 - KFP wants a literal default
) -> None:
    """Ingest, validate, balance; train, evaluate and register; then compare and roll out.

    Args:
        run_uri: Where the run leaves what it makes, such as gs://bucket/runs/today.
        source: Where posters come from - folder, drawn or tmdb.
        path: The folder with posters.csv and the images (source folder).
        limit: A sample of this many posters, or this many drawn films; 0 takes all, or draws 1500.
        imdb: IMDb's title.basics.tsv.gz, a file or a URL, to compare the labels with.
        label_set: What to predict - all18, study4 or subgenres.
        custom_cnn: Train our own network from scratch.
        vgg16: Train VGG16 by transfer learning.
        weights: VGG16's ImageNet weights - torchvision, random, or the URI of a safetensors file.
        nodes: How many machines train an architecture together.
        gpus: How many GPUs each of them has; 0 trains on CPUs.
        gpu_type: Which GPUs.
        storage_class: Of each machine's volume for features; with none they are on its own disk.
        registry_uri: The model registry; without it, one below run_uri.
        rollout_to: The InferenceService that the best model is rolled out to, once it has beaten
            the champion; without it, it stays a candidate.
        overrides: Settings by dotted name, such as {"train.vgg16.epochs": "20"}.
    """
    told = make_task("notify", run_uri=run_uri)
    add_webhook(told)
    with dsl.ExitHandler(told, name="run"):
        planned = make_task(
            "plan-ingest",
            run_uri=run_uri,
            source=source,
            path=path,
            limit=limit,
            overrides=overrides,
        )
        add_tmdb_token(planned)
        with dsl.ParallelFor(planned.output, name="slices", parallelism=SPANS_AT_A_TIME) as span:
            ingested = make_task(
                "ingest",
                run_uri=run_uri,
                source=source,
                path=path,
                limit=limit,
                span=span,
                spans=planned.output,
                overrides=overrides,
            )
            add_tmdb_token(ingested)
        merged = make_task(
            "merge", run_uri=run_uri, spans=dsl.Collected(ingested.outputs["Output"]), imdb=imdb
        )
        digest = merged.outputs["Output"]
        validated = make_task(
            "validate", run_uri=run_uri, catalog_digest=digest, overrides=overrides
        )
        balanced = make_task(
            "balance",
            run_uri=run_uri,
            catalog_digest=digest,
            label_set=label_set,
            overrides=overrides,
        ).after(validated)
        versions = {
            architecture: _train(
                architecture,
                wanted,
                run_uri=run_uri,
                split_digest=balanced.outputs["Output"],
                weights=weights,
                place={
                    "nodes": nodes,
                    "gpus": gpus,
                    "gpu_type": gpu_type,
                    "storage_class": storage_class,
                },
                registry_uri=registry_uri,
                overrides=overrides,
            )
            for architecture, wanted in zip(ARCHITECTURES, (custom_cnn, vgg16), strict=True)
        }
        chosen = make_task(
            "gate",
            run_uri=run_uri,
            registry_uri=registry_uri,
            **versions,
            overrides=overrides,
        )
        with dsl.If(rollout_to != "", name="if-rollout"):
            make_task(
                "rollout",
                run_uri=run_uri,
                registry_uri=registry_uri,
                service=rollout_to,
                bundle_version=chosen.outputs["Output"],
                overrides=overrides,
            )
