"""`marquee receive`: prediction records from KServe's own payload logger."""

import typer

from marquee.processes import end_on_stop


def receive(
    records: str = typer.Option(..., metavar="URI", help="Where to write prediction records."),
    host: str = typer.Option("127.0.0.1", help="The address to listen on; 0.0.0.0 for all."),
    port: int = typer.Option(8081, min=0, max=65535, help="The port; 0 for any free one."),
) -> None:
    """Take the CloudEvents of KServe's payload logger and record what was predicted."""
    end_on_stop()
    from serving.receiver import receive as run_receiver

    run_receiver(records, host, port, announce=typer.echo)
