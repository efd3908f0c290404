"""How a worker takes wake-ups from Celery's queue: over several connections, and without a trace in Redis."""

from __future__ import annotations

from typing import Any

from celery import bootsteps
from kombu.common import ignore_errors

FURTHER_READERS = 3
"""Connections beside Celery's own. Each asks for one wake-up and waits for its turn in Redis, behind the scripts of
other calls; one alone brings a worker some 350 wake-ups a second, four a quarter more."""


class FurtherReaders(bootsteps.StartStopStep):
    """Asks for the next wake-ups while the answer about the last one is on its way.

    Only where every wake-up there can be finds a free thread: else one would wait here while another worker idles.
    """

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, c: Any, **kwargs: Any) -> None:
        super().__init__(c, **kwargs)
        self._consumers: list[Any] = []

    def start(self, c: Any) -> None:
        """Called on every connection, each of which has new channels."""
        _forget(c.task_consumer.channel)

    def register_with_event_loop(self, c: Any, hub: Any) -> None:  # noqa: ARG002 - Celery's signature
        """Called on every connection, just before Celery's own reader begins."""
        self._consumers = []
        if c.controller.concurrency <= c.app.conf["bunce_settings"].max_concurrent_calls:
            return
        for _ in range(FURTHER_READERS):
            channel = c.connection.channel()
            _forget(channel)
            channel.basic_qos(0, c.initial_prefetch_count, False)
            consumer = c.app.amqp.TaskConsumer(channel, on_decode_error=c.on_decode_error)
            consumer.on_message = c.create_task_handler()
            consumer.consume()
            self._consumers.append(consumer)

    def stop(self, c: Any) -> None:
        """Take no more."""
        for consumer in self._consumers:
            ignore_errors(c, consumer.cancel)
        self._consumers = []


def _forget(channel: Any) -> None:
    # Wake-ups that a lost connection leaves unacknowledged are running, or worthless. Celery would put them back, so
    # that each ran a second time, or dump them to a file where Redis is away.
    channel.do_restore = False
