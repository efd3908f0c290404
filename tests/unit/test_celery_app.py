"""The Celery application that carries the wake-ups."""

from __future__ import annotations

from typing import Any

import pytest
from celery.worker.consumer import Consumer

from bunce_attributes.settings import load_settings
from bunce_attributes.worker.celery_app import create_app
from bunce_attributes.worker.consumer import QuickConsumer


@pytest.mark.parametrize("name", ["CELERY_BROKER_URL", "CELERY_BROKER_READ_URL", "CELERY_BROKER_WRITE_URL"])
def test_wake_ups_go_where_the_rows_are_whatever_celery_reads_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "redis://elsewhere:1/5")
    app = create_app(load_settings(redis_url="redis://here:7000/3"))
    for connection in (app.connection_for_read(), app.connection_for_write()):
        assert (connection.hostname, connection.port) == ("here", 7000)


def test_two_namespaces_share_no_name_in_redis() -> None:
    one, other = (create_app(load_settings(namespace=name)).conf for name in ("one", "other"))
    for setting in ("control_exchange", "event_exchange", "event_queue_prefix", "task_default_queue"):
        assert one[setting] != other[setting]
    assert one.broker_transport_options["ack_emulation"] is False, "so that kombu keeps no unacked keys to share"


class Connection:
    """Notes how it was asked to connect."""

    pauses: dict[str, int]

    def ensure_connection(self, *_: Any, **asked: Any) -> None:
        self.pauses = {name: value for name, value in asked.items() if name.startswith("interval")}


def test_a_worker_is_back_within_seconds_however_long_redis_was_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """Celery's own pauses grow to half a minute."""
    monkeypatch.setattr(Consumer, "ensure_connected", lambda _, connection: connection.ensure_connection())
    connection = Connection()
    QuickConsumer.__new__(QuickConsumer).ensure_connected(connection)
    assert connection.pauses["interval_max"] <= 3
    assert create_app(load_settings()).conf.worker_consumer == f"{QuickConsumer.__module__}:{QuickConsumer.__name__}"
