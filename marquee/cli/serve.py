"""`marquee serve`: the endpoint."""

import typer


def serve(
    bundle: str = typer.Argument(..., metavar="BUNDLE", help="The model bundle's folder or URI."),
    host: str = typer.Option("127.0.0.1", help="The address to listen on; 0.0.0.0 for all."),
    port: int = typer.Option(8080, min=0, max=65535, help="The port; 0 for any free one."),
    records: str | None = typer.Option(
        None, metavar="URI", help="Where to write prediction records; nowhere without it."
    ),
) -> None:
    """Serve a bundle with KServe's model server (v1 and v2 protocol)."""
    from serving.server import serve as run_server

    run_server(bundle, host, port, records, announce=typer.echo)
