"""`marquee tune`: better settings for an architecture, on this machine or with Katib."""

from pathlib import Path

import typer
from rich.console import Console
from rich.table import Table

from marquee.cli.options import SET
from marquee.errors import UsageError

app = typer.Typer(
    name="tune", help="Search for better settings of an architecture.", no_args_is_help=True
)

_ARCH = typer.Option("custom_cnn", help="The architecture.")
_WEIGHTS = typer.Option(
    "torchvision", metavar="URI", help="ImageNet weights: torchvision, random, a file or a URI."
)
_RUN = typer.Option(None, metavar="URI", help="A run whose catalog and split plan are taken.")
_CATALOG = typer.Option(None, metavar="URI", help="The catalog, without --run.")
_SPLIT = typer.Option(None, metavar="URI", help="Its split plan, without --run.")
_TRIALS = typer.Option(30, min=1, help="How many trials there shall be in all.")
_SEED = typer.Option(0, min=0, help="Chooses what is tried.")


@app.command("run")
def run(
    out: Path = typer.Option(..., metavar="DIR", help="The search's folder; it goes on there."),
    arch: str = _ARCH,
    run: str | None = _RUN,
    catalog: str | None = _CATALOG,
    split: str | None = _SPLIT,
    weights: str = _WEIGHTS,
    trials: int = _TRIALS,
    seeds: int = typer.Option(
        0, min=0, help="With how many other seeds the best and the present settings train again."
    ),
    seed: int = _SEED,
    overrides: list[str] = SET,
    as_json: bool = typer.Option(False, "--json", help="Print the findings as JSON."),
) -> None:
    """Search on this machine, by the validation mAP; the same command again goes on."""
    from components.train.order import Order
    from components.train.search import SearchSpace
    from components.train.tune import tune
    from marquee.settings import load, parse_overrides

    space = SearchSpace.of(arch, load(parse_overrides(overrides)))
    catalog_uri, split_uri = _data(run, catalog, split)
    order = Order(
        catalog_uri=catalog_uri,
        split_uri=split_uri,
        architecture=arch,
        weights=weights,
        bundle_uri=str(out / "bundle"),
    )
    found = tune(order, space, out, trials=trials, seeds=seeds, seed=seed)
    found.write(str(out))
    if as_json:
        typer.echo(found.to_json())
        return
    console = Console()
    table = Table(title=f"{arch}: the best settings", title_justify="left")
    for column in ("setting", "best", "present", "searched"):
        table.add_column(column, justify="left" if column == "setting" else "right")
    for item in found.parameters:
        values = (found.best.values[item.name], found.present[item.name])
        table.add_row(item.name, *(f"{value:.4g}" if isinstance(value, float) else str(value)
                                   for value in values), str(item))  # fmt: skip
    console.print(table)
    console.print(found.sentence(), highlight=False)
    for name in ("best.toml", "trials.json", "tune.html"):
        console.print(f"  {out / name}", highlight=False, soft_wrap=True)


@app.command("manifest")
def manifest(
    arch: str = _ARCH,
    run: str | None = _RUN,
    catalog: str | None = _CATALOG,
    split: str | None = _SPLIT,
    weights: str = _WEIGHTS,
    name: str | None = typer.Option(None, help="The experiment's name; tune-ARCH without it."),
    trials: int = _TRIALS,
    parallel: int = typer.Option(2, min=1, help="How many train at a time."),
    runtime: str = typer.Option(
        "marquee-cpu", help="The training runtime: marquee-cpu, or marquee-gpu for one GPU each."
    ),
    namespace: str = typer.Option("", help="The namespace; that of kubectl without it."),
    storage_pvc: str = typer.Option(
        "",
        envvar="MARQUEE_STORAGE_PVC",
        metavar="NAME",
        help="The volume that the run lies on, where no object storage is.",
    ),
    checkpoints: str | None = typer.Option(
        None, metavar="URI", help="Where trials keep checkpoints; RUN/tuning/NAME without it."
    ),
    seed: int = _SEED,
    overrides: list[str] = SET,
) -> None:
    """Print a Katib Experiment over the same search space, for kubectl apply."""
    import yaml

    from components.train.experiment import Trials, experiment
    from components.train.order import Order
    from components.train.search import SearchSpace
    from marquee.settings import load, parse_overrides
    from marquee.storage import join

    space = SearchSpace.of(arch, load(parse_overrides(overrides)))
    catalog_uri, split_uri = _data(run, catalog, split)
    name = name or f"tune-{arch}".replace("_", "-")
    kept = checkpoints or (join(run, "tuning", name) if run else "")
    if not kept:
        raise UsageError("there is no place for checkpoints", remedy="give --checkpoints")
    order = Order(
        catalog_uri=catalog_uri,
        split_uri=split_uri,
        architecture=arch,
        weights=weights,
        bundle_uri="",
        checkpoints_uri=kept,
    )
    document = experiment(order, space, Trials(
        name=name, count=trials, parallel=parallel, runtime=runtime, namespace=namespace,
        seed=seed, storage_pvc=storage_pvc,
    ))  # fmt: skip
    typer.echo(yaml.safe_dump(document, sort_keys=False, width=1000), nl=False)


@app.command("trial")
def trial(
    catalog: str = typer.Option(..., metavar="URI", help="The catalog."),
    split: str = typer.Option(..., metavar="URI", help="Its split plan."),
    checkpoints: str = typer.Option(..., metavar="URI", help="Where checkpoints are kept."),
    arch: str = _ARCH,
    weights: str = _WEIGHTS,
    overrides: list[str] = SET,
) -> None:
    """Train once, and print the validation mAP after each epoch: a trial of a Katib Experiment."""
    from components.train.experiment import metric_line
    from components.train.order import Order
    from components.train.train import measure
    from marquee import storage
    from marquee.processes import stoppable
    from marquee.settings import load, parse_overrides

    order = Order(
        catalog_uri=catalog,
        split_uri=split,
        architecture=arch,
        weights=weights,
        bundle_uri="",
        checkpoints_uri=checkpoints,
    )
    with stoppable():
        found = measure(
            order,
            load(parse_overrides(overrides)),
            lambda epochs: print(metric_line(epochs[-1]["validation_macro_map"]), flush=True),
        )
    print(metric_line(found.score), flush=True)
    storage.remove(order.checkpoints)


def _data(run: str | None, catalog: str | None, split: str | None) -> tuple[str, str]:
    """Give the catalog and the split plan."""
    from marquee.run_layout import RunLayout

    if run and not (catalog or split):
        layout = RunLayout(run.rstrip("/"))
        return layout.catalog, layout.split
    if run or not (catalog and split):
        raise UsageError(
            "there is no saying what to train on", remedy="give --run, or --catalog and --split"
        )
    return catalog, split
