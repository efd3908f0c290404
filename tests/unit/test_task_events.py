"""The sender of Celery's events: none is lost, whatever threads do while the buffer is flushed."""

from __future__ import annotations

from typing import Any

from celery import Celery

from bunce_attributes.worker.events import WholeDispatcher


class Producer:
    """Takes messages; `meanwhile` happens while one is being published."""

    def __init__(self) -> None:
        self.sent: list[list[str]] = []
        self.meanwhile: Any = None

    def publish(self, events: list[dict[str, Any]], **_: object) -> None:
        self.sent.append([event["uuid"] for event in events])
        if self.meanwhile is not None:
            also, self.meanwhile = self.meanwhile, None
            also()


def dispatcher(producer: Producer) -> WholeDispatcher:
    app = Celery(set_as_current=False, broker="memory://")
    sender = WholeDispatcher(app.connection(), app=app, enabled=False, buffer_group=["task"])
    sender.enabled, sender.producer = True, producer
    return sender


def test_an_event_that_comes_while_the_buffer_is_flushed_goes_with_the_next_flush() -> None:
    """Celery 5.6 empties the whole buffer afterwards, and Flower shows tasks that never end."""
    producer = Producer()
    sender = dispatcher(producer)
    sender.send("task-received", uuid="a")
    producer.meanwhile = lambda: sender.send("task-succeeded", uuid="b")
    sender.flush()
    sender.flush()
    assert producer.sent == [["a"], ["b"]]


def test_events_wait_for_company() -> None:
    producer = Producer()
    sender = dispatcher(producer)
    for uuid in "abc":
        sender.send("task-received", uuid=uuid)
    assert producer.sent == []
    sender.flush()
    assert producer.sent == [["a", "b", "c"]]


def test_an_empty_buffer_sends_nothing() -> None:
    producer = Producer()
    dispatcher(producer).flush()
    assert producer.sent == []
