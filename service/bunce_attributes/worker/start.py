"""Starting a worker process."""

from __future__ import annotations

from typing import Any

from celery import Celery, signals

from bunce_attributes.settings import Settings
from bunce_attributes.worker.logs import configure_logging, logger
from bunce_attributes.worker.runtime import runtime


def start(app: Celery, settings: Settings, *, queue: str, concurrency: int, pool: str, name: str) -> None:
    """Run a worker until it is stopped."""

    @signals.setup_logging.connect(weak=False)
    def _ours(**_: Any) -> None:
        configure_logging(settings)

    @signals.worker_shutting_down.connect(weak=False)
    def _stopping(**_: Any) -> None:
        runtime(settings).stopping.set()

    configure_logging(settings)
    logger.info("worker starts", name=name, pool=pool, concurrency=concurrency, api=settings.base_url)
    app.worker_main(
        [
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
