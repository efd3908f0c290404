"""`bunce-attributes metrics`."""

from __future__ import annotations

import click

from bunce_attributes.cli.common import fail, settings_or_exit


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0 in a container.")
@click.option("--port", type=click.IntRange(1, 65535), default=9540, show_default=True, help="Port to listen on.")
def metrics(host: str, port: int) -> None:
    """Serve /metrics for Prometheus, /healthz and /readyz. One is enough for all workers; it needs no API key."""
    settings = settings_or_exit()
    from bunce_attributes.exporter import listen, serve  # noqa: PLC0415 - the web server takes a third of a second to import
    from bunce_attributes.worker.logs import configure_logging, logger  # noqa: PLC0415 - the same

    try:
        listener = listen(host, port)
    except OSError as error:
        fail(f"Error: metrics cannot be served on {host}:{port}: {error.strerror}. Give another --host or --port.")
    configure_logging(settings)
    logger.info("metrics are served", host=host, port=port, path="/metrics")
    serve(settings, listener)
