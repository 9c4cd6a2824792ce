"""`marquee monitor`: the monitoring pipeline on this machine."""

from pathlib import Path

import typer

from marquee.cli.options import SET, LabelSet
from marquee.errors import UsageError


def monitor(
    records: str = typer.Option(..., metavar="URI", help="The prediction records' folder or URI."),
    registry: str = typer.Option(
        "", metavar="URI", help="The model registry; its champion is watched."
    ),
    bundle: str = typer.Option(
        "", metavar="BUNDLE", help="The bundle to watch instead of a champion."
    ),
    genres: LabelSet = typer.Option(LabelSet.ALL18, help="The champion's label set."),
    truth: str = typer.Option(
        "", metavar="CSV", help="Films' genres: the columns film_id and genres (joined by |)."
    ),
    retrain: bool = typer.Option(
        False, "--retrain", help="Ask for training if the model is less often right."
    ),
    training: list[str] = typer.Option(
        [], metavar="NAME=VALUE", help="A parameter of that training, such as path=posters."
    ),
    out: Path = typer.Option(
        ..., metavar="OUT", help="Where reports are kept, the same folder each time."
    ),
    overrides: list[str] = SET,
) -> None:
    """Report on every window that has ended since the last call, as a schedule does."""
    from marquee.run_layout import RunLayout
    from marquee.settings import load, parse_overrides
    from marquee.storage import absolute
    from monitoring.archive import documents
    from pipelines.local import run_locally
    from pipelines.monitoring import monitoring

    given = parse_overrides(overrides)
    load(given)
    if not (registry or bundle):
        raise UsageError("nobody says which model is watched", remedy="give --registry or --bundle")
    arguments = {
        "run_uri": str(out.absolute()),
        "records_uri": absolute(records),
        "registry_uri": absolute(registry),
        "bundle_uri": absolute(bundle),
        "label_set": genres.value,
        "truth": absolute(truth),
        "retrain": retrain,
        "training": _parameters(training),
        "overrides": given,
    }
    run_locally(monitoring, arguments, out)
    latest = next(documents(RunLayout(str(out)).drift), None)
    typer.echo(latest["sentence"] if latest else "No window is due: there are no records.")


_PLACES = ("path", "imdb", "registry_uri")
"""Parameters of the training that may be paths of this machine."""


def _parameters(given: list[str]) -> dict[str, str]:
    from marquee.storage import absolute

    for item in given:
        if "=" not in item:
            raise UsageError(f"--training {item!r} names no value", remedy="write name=value")
    pairs = dict(item.split("=", 1) for item in given)
    return {name: absolute(text) if name in _PLACES else text for name, text in pairs.items()}
