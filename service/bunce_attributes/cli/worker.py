"""`bunce-attributes worker`."""

from __future__ import annotations

import click

from bunce_attributes.cli.common import settings_or_exit


@click.command()
@click.option(
    "--concurrency",
    type=click.IntRange(min=1),
    help="Tasks at once in this worker. Default: BUNCE_MAX_CONCURRENT_CALLS and one for the intake.",
)
@click.option(
    "--pool",
    type=click.Choice(["threads", "prefork", "solo"]),
    default="threads",
    show_default=True,
    help="A call mostly waits for the API, so threads are enough; prefork spreads a backlog over several cores.",
)
@click.option("--name", default="worker@%h", show_default=True, help="Name in Flower; %h is the host name.")
def worker(concurrency: int | None, pool: str, name: str) -> None:
    """Deliver updates until SIGTERM: calls in flight are finished, everything else stays in Redis."""
    settings = settings_or_exit(need_api_key=True)
    from bunce_attributes.outbox.keys import work_queue  # noqa: PLC0415 - Celery takes half a second to import
    from bunce_attributes.worker.celery_app import create_app  # noqa: PLC0415 - the same
    from bunce_attributes.worker.start import start  # noqa: PLC0415 - the same

    start(
        create_app(settings),
        settings,
        queue=work_queue(settings.namespace),
        concurrency=concurrency or settings.max_concurrent_calls + 1,
        pool=pool,
        name=name,
    )
