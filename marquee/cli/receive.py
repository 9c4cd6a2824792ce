"""`marquee receive`: prediction records from KServe's own payload logger."""

import typer

from marquee.processes import end_on_stop


def receive(
    records: str = typer.Option(..., metavar="URI", help="Where to write prediction records."),
    host: str = typer.Option("127.0.0.1", help="The address to listen on; 0.0.0.0 for all."),
    port: int = typer.Option(8081, min=0, max=65535, help="The port; 0 for any free one."),
    allow_anonymous: bool = typer.Option(
        False, "--allow-anonymous", help="Take events on any address: KServe's agent has no token."
    ),
) -> None:
    """Take the CloudEvents of KServe's payload logger and record what was predicted."""
    end_on_stop()
    from serving.receiver import receive as run_receiver
    from serving.settings import check_access

    check_access(
        "receive",
        host,
        allow_anonymous,
        "say --allow-anonymous, and have a network policy let KServe's agents pass only",
    )
    run_receiver(records, host, port, announce=typer.echo)
