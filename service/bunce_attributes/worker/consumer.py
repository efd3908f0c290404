"""Celery's consumer, which looks every few seconds whether Redis is back: its own pauses grow to half a minute."""

from __future__ import annotations

from functools import partial
from typing import Any

from celery.worker.consumer import Consumer

LONGEST_PAUSE_SECONDS = 3


class QuickConsumer(Consumer):
    """As Celery's own, but for the pauses between its attempts to connect."""

    def ensure_connected(self, conn: Any) -> Any:
        """Connect, however long it takes."""
        conn.ensure_connection = partial(
            conn.ensure_connection, interval_start=1, interval_step=1, interval_max=LONGEST_PAUSE_SECONDS
        )
        return super().ensure_connected(conn)
