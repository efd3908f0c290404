"""Starting a worker process."""

from __future__ import annotations

from typing import Any

from celery import Celery, signals
from celery.apps import worker as celery_worker
from celery.utils.nodenames import host_format

from bunce_attributes.settings import Settings
from bunce_attributes.worker.events import announce_queues
from bunce_attributes.worker.logs import as_json, configure_logging, logger, say
from bunce_attributes.worker.runtime import runtime


def start(app: Celery, settings: Settings, *, queue: str, concurrency: int, pool: str, name: str) -> None:
    """Run a worker until it is stopped."""

    @signals.setup_logging.connect(weak=False)
    def _ours(**_: Any) -> None:
        configure_logging(settings)

    @signals.worker_shutting_down.connect(weak=False)
    def _stopping(**_: Any) -> None:
        runtime(settings).stopping.set()

    @signals.worker_shutdown.connect(weak=False)
    def _stopped(**_: Any) -> None:
        logger.info("worker stopped")

    configure_logging(settings)
    if as_json(settings):
        # What Celery prints when it is told to stop.
        celery_worker.safe_say = say
    announce_queues()
    logger.info("worker starts", name=host_format(name), pool=pool, concurrency=concurrency, api=settings.base_url)
    app.worker_main(
        [
            # The banner is no log line; what it tells is in the line above.
            "--quiet",
            "worker",
            f"--pool={pool}",
            f"--concurrency={concurrency}",
            f"--hostname={name}",
            # After a reconnect Celery consumes every queue it knows unless it is told which (celery 10335).
            f"--queues={queue}",
            # Half the connections, and a faster start; the heartbeat stays, Flower lives by it.
            "--without-gossip",
            "--without-mingle",
            f"--loglevel={settings.log_level}",
        ]
    )
