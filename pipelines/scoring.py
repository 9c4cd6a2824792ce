"""The scoring pipeline: a catalog in, labels of every poster out."""

from typing import Dict  # noqa: UP035 - KFP reads the annotation

from kfp import dsl

from pipelines.steps import limits, make_task

NAME = "poster-scoring"


@dsl.pipeline(
    name=NAME,
    description="A catalog of posters in, a model's labels of all of it out.",
    pipeline_config=limits(days=2),
)
def scoring(
    run_uri: str,
    catalog_uri: str,
    bundle_uri: str,
    out_uri: str = "",
    overrides: Dict[str, str] = {},  # noqa: B006, UP006 - KFP wants a literal default
) -> None:
    """Label every poster of a catalog with a model.

    Args:
        run_uri: Where the run leaves what it makes, such as gs://bucket/runs/today.
        catalog_uri: The catalog, such as gs://bucket/runs/today/catalog.
        bundle_uri: The model bundle, such as one in the registry.
        out_uri: The Parquet file of labels to write or resume; {model} and {catalog} in it become
            the version and digest. Without it, such a file below run_uri.
        overrides: Settings by dotted name, such as {"licence.tmdb_agreement": "2026-17"}.
    """
    make_task(
        "score",
        run_uri=run_uri,
        catalog_uri=catalog_uri,
        bundle_uri=bundle_uri,
        out_uri=out_uri,
        overrides=overrides,
    )
