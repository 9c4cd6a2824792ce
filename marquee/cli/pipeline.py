"""`marquee pipeline`: packages for Kubeflow Pipelines, and what runs there."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from marquee.errors import Stopped, UsageError

if TYPE_CHECKING:
    from pipelines.cluster import Cluster
    from pipelines.schedule import Schedule

app = typer.Typer(
    no_args_is_help=True, help="The pipelines on Kubeflow: packages, runs, schedules."
)

_NAME = typer.Argument(..., metavar="NAME", help="The pipeline, such as marquee-training.")
_ENDPOINT = typer.Option(
    "",
    metavar="URL",
    envvar="MARQUEE_KFP_ENDPOINT",
    help="The address of the Kubeflow Pipelines UI.",
)
_NAMESPACE = typer.Option(
    "", envvar="MARQUEE_KFP_NAMESPACE", help="The profile's namespace, if there are several users."
)
_CA_FILE = typer.Option(
    "",
    metavar="FILE",
    envvar="MARQUEE_KFP_CA_FILE",
    help="Certificates to trust instead of the public ones.",
)
_PARAMETERS = typer.Option([], "--set-param", metavar="NAME=VALUE", help="Set a parameter.")
_EXPERIMENT = typer.Option("marquee", help="The experiment; it is made if it is missing.")


@app.command("compile")
def compile_(
    out: Path = typer.Option(
        Path("pipelines/compiled"), metavar="DIR", help="Where the packages go."
    ),
) -> None:
    """Compile the pipelines into packages to upload to the Kubeflow UI."""
    from pipelines.package import compile_all

    for package in compile_all(out):
        typer.echo(str(package))


@app.command()
def run(
    name: str = _NAME,
    parameters: list[str] = _PARAMETERS,
) -> None:
    """Run a pipeline on this machine, with the parameters that it has in the Kubeflow UI."""
    from google.protobuf.json_format import MessageToDict

    from marquee.storage import is_local, local_path
    from pipelines.arguments import parse_arguments
    from pipelines.local import run_locally
    from pipelines.package import find

    pipeline = find(name)
    arguments = parse_arguments(MessageToDict(pipeline.pipeline_spec), parameters)
    if not is_local(arguments["run_uri"]):
        raise UsageError(
            f"run_uri is {arguments['run_uri']}", remedy="give a folder of this machine"
        )
    run_locally(pipeline, arguments, local_path(arguments["run_uri"]).absolute())


@app.command()
def upload(
    names: list[str] = typer.Argument(None, metavar="[NAME]...", help="Which; all without it."),
    endpoint: str = _ENDPOINT,
    namespace: str = _NAMESPACE,
    ca_file: str = _CA_FILE,
) -> None:
    """Compile and upload pipelines; a version that is there already is not sent again."""
    import tempfile

    from pipelines.package import PIPELINES, compile_pipeline

    cluster = _cluster(endpoint, namespace, ca_file)
    with tempfile.TemporaryDirectory() as folder:
        for package in [compile_pipeline(name, Path(folder)) for name in names or PIPELINES]:
            done = cluster.upload(package)
            typer.echo(f"{done.pipeline} {done.version} {'uploaded' if done.new else 'unchanged'}")


@app.command()
def submit(
    name: str = _NAME,
    endpoint: str = _ENDPOINT,
    namespace: str = _NAMESPACE,
    ca_file: str = _CA_FILE,
    parameters: list[str] = _PARAMETERS,
    experiment: str = _EXPERIMENT,
    run_name: str = typer.Option(
        "", metavar="TEXT", help="The run's name: if there is such a run, it is not started again."
    ),
    wait: bool = typer.Option(False, "--wait", help="Follow the run; exit as it does."),
) -> None:
    """Start a run of an uploaded pipeline's latest version; print its id and its page."""
    from pipelines.arguments import parse_arguments
    from pipelines.cluster import start_run, wait_for_run

    cluster = _cluster(endpoint, namespace, ca_file)
    run = start_run(
        cluster,
        name,
        parse_arguments(cluster.latest(name).pipeline_spec, parameters),
        run_name=run_name or f"{name} {datetime.now(UTC):%Y-%m-%d %H:%M:%S}",
        experiment=experiment,
    )
    typer.echo(f"{run.run_id}\n{run.url}")
    if not wait:
        return
    try:
        wait_for_run(cluster, run, lambda line: typer.echo(line, err=True))
    except KeyboardInterrupt:
        raise Stopped("the run goes on without us", remedy=f"see {run.url}") from None


@app.command()
def schedule(
    name: str = typer.Argument("", metavar="[NAME]", help="The pipeline."),
    endpoint: str = _ENDPOINT,
    namespace: str = _NAMESPACE,
    ca_file: str = _CA_FILE,
    cron: str = typer.Option(
        "", metavar="FIELDS", help="When to run: six fields, the seconds first: '0 0 3 * * *'."
    ),
    every: str = typer.Option("", metavar="TIME", help="Run at an interval instead: 24h."),
    parameters: list[str] = _PARAMETERS,
    experiment: str = _EXPERIMENT,
    no_catchup: bool = typer.Option(
        False, "--no-catchup", help="Of the times that were missed, make up for the last one only."
    ),
    suffix: str = typer.Option(
        "", "--name", metavar="TEXT", help="What tells it from the pipeline's other schedules."
    ),
    pause: bool = typer.Option(False, "--pause", help="Pause it."),
    resume: bool = typer.Option(False, "--resume", help="Resume it."),
    delete: bool = typer.Option(False, "--delete", help="Delete it; its runs go on."),
    list_: bool = typer.Option(False, "--list", help="List all schedules."),
) -> None:
    """Run an uploaded pipeline again and again; the same command again changes nothing."""
    from pipelines import schedule as schedules
    from pipelines.arguments import parse_arguments
    from pipelines.cron import Cron, Every

    if sum(map(bool, (cron, every, pause, resume, delete, list_))) != 1 or bool(name) == list_:
        raise UsageError(
            "a schedule wants a pipeline's name and one thing to do",
            remedy="give NAME and one of --cron, --every, --pause, --resume, --delete; or --list",
        )
    trigger = Cron(cron) if cron else Every.parse(every) if every else None
    cluster = _cluster(endpoint, namespace, ca_file)
    called = schedules.schedule_name(name, suffix)
    if list_:
        for item in schedules.schedules(cluster):
            _show(item)
    elif delete:
        done = "deleted" if schedules.delete(cluster, called) else "not there"
        typer.echo(f"{called}: {done}")
    elif trigger is None:
        _show(schedules.switch(cluster, called, enabled=resume))
    else:
        plan = schedules.Plan(
            name=called,
            pipeline=name,
            trigger=trigger,
            arguments=parse_arguments(cluster.latest(name).pipeline_spec, parameters),
            catch_up=not no_catchup,
            experiment=experiment,
        )
        _show(schedules.apply(cluster, plan))


def _cluster(endpoint: str, namespace: str, ca_file: str) -> "Cluster":
    from pipelines.cluster import Cluster

    return Cluster(endpoint, namespace, ca_file)


def _show(schedule: "Schedule") -> None:
    done = f" ({schedule.outcome})" if schedule.outcome else ""
    typer.echo(f"{schedule.name}: {schedule.trigger}{'' if schedule.enabled else ', paused'}{done}")
    for time in schedule.next_times:
        typer.echo(f"  next {time:%Y-%m-%d %H:%M:%S} UTC")
