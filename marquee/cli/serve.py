"""`marquee serve`: the endpoint."""

import typer

from marquee.processes import end_on_stop


def serve(
    bundle: str = typer.Argument(..., metavar="BUNDLE", help="The model bundle's folder or URI."),
    host: str = typer.Option("127.0.0.1", help="The address to listen on; 0.0.0.0 for all."),
    port: int = typer.Option(8080, min=0, max=65535, help="The port; 0 for any free one."),
    grpc_port: int | None = typer.Option(
        None, min=1, max=65535, help="The port of the v2 protocol over gRPC; none without it."
    ),
    records: str | None = typer.Option(
        None, metavar="URI", help="Where to write prediction records; nowhere without it."
    ),
    record_seconds: float = typer.Option(
        60.0, help="How long a record waits for others until a file of them is written."
    ),
    samples: str | None = typer.Option(
        None, metavar="URI", help="Keep some of the posters here for rollouts to replay; opt-in."
    ),
    sample_share: float = typer.Option(0.01, help="Which share of the posters is kept."),
    sample_hours: int = typer.Option(24, help="For how many hours one is kept at most."),
    require_signature: bool = typer.Option(
        False, "--require-signature", help="Refuse a bundle that nobody signed."
    ),
    token_file: str | None = typer.Option(
        None, metavar="FILE", help="Access tokens, one a line; read anew when they change."
    ),
    allow_anonymous: bool = typer.Option(
        False, "--allow-anonymous", help="Answer without tokens, on any address."
    ),
    url_host: list[str] = typer.Option(
        [], metavar="HOST", help="A host that posters may be fetched from by URL; repeatable."
    ),
    registry: str | None = typer.Option(
        None, metavar="URI", help="The registry whose purged posters are not shown as similar."
    ),
    max_batch: int = typer.Option(
        8, help="Posters a run of a quick model, at most; a slow one's share none."
    ),
    max_wait_ms: float = typer.Option(
        2.0, help="How long a run waits for posters that are being decoded."
    ),
    queue_seconds: float = typer.Option(
        0.5, help="Refuse requests (503) that would wait for longer than this."
    ),
    max_posters: int = typer.Option(64, help="Posters a request."),
    max_request_mb: float = typer.Option(32.0, help="MB a request."),
) -> None:
    """Serve a bundle with KServe's model server (v1 and v2 protocol)."""
    end_on_stop()
    from serving.server import serve as run_server
    from serving.settings import ServingSettings

    settings = ServingSettings(
        host=host,
        port=port,
        grpc_port=grpc_port,
        records=records,
        record_seconds=record_seconds,
        samples=samples,
        sample_share=sample_share,
        sample_hours=sample_hours,
        require_signature=require_signature,
        token_file=token_file,
        allow_anonymous=allow_anonymous,
        url_hosts=tuple(url_host),
        registry=registry,
        max_batch=max_batch,
        max_wait_ms=max_wait_ms,
        queue_seconds=queue_seconds,
        max_posters=max_posters,
        max_request_mb=max_request_mb,
    )
    run_server(bundle, settings, announce=typer.echo)
