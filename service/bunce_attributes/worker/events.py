"""What Flower and Celery's other tools see of a worker: every task to its end, failures in one line, both queues.

Producers' messages are read by the intake, not by Celery's consumer; so that they can be followed all the same, the
intake tells what became of them in Celery's own events.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import Any

from celery import Celery, bootsteps
from celery.app.events import Events
from celery.events.dispatcher import EventDispatcher
from celery.events.event import Event, get_exchange
from celery.utils.time import utcoffset
from celery.worker.control import Panel, control_command, inspect_command
from celery.worker.request import Request
from kombu.exceptions import OperationalError

from bunce_attributes.celery_message import TASK_NAME
from bunce_attributes.outbox.keys import producer_lists
from bunce_attributes.outcomes import TakenMessage
from bunce_attributes.worker.logs import logger

_ARGUMENTS = "-"
"""Shown in place of the arguments, which are rows; an empty string would be replaced by the real ones."""


EVENTS_TOGETHER_SECONDS = 0.2
"""How long events wait for company: one by one they would cost more than the calls they tell of."""


class WholeDispatcher(EventDispatcher):
    """Celery's sender of events, whose buffer loses none: that of 5.6 forgets what threads add while it is flushed."""

    def __init__(self, *args: Any, **options: Any) -> None:
        # Celery would flush at its loop's next turn, which is at once.
        super().__init__(*args, **{**options, "on_send_buffered": None, "buffer_limit": 500})

    def flush(self, errors: bool = True, groups: bool = True) -> None:
        """Publish what is buffered; what is added meanwhile stays for the next time."""
        super().flush(errors=errors, groups=False)
        if groups:
            with self.mutex:
                for group, buffer in list(self._group_buffer.items()):
                    if events := buffer[:]:
                        self._publish(events, self.producer, f"{group}.multi")
                        del buffer[: len(events)]


class WholeEvents(Events):
    """``app.events`` with our sender."""

    dispatcher_cls = f"{__name__}:{WholeDispatcher.__name__}"


class EventsTogether(bootsteps.StartStopStep):
    """Publishes the events of a fifth of a second together."""

    requires = ("celery.worker.consumer.events:Events",)

    def register_with_event_loop(self, c: Any, hub: Any) -> None:
        """Called on every connection, each of which has a new sender and takes the loop's timers with it."""
        if c.event_dispatcher:
            hub.call_repeatedly(EVENTS_TOGETHER_SECONDS, c.event_dispatcher.flush)


class OneLineRequest(Request):
    """A request whose failure shows as one line: what failed is in our own words, and its traceback in the log."""

    def send_event(self, type: str, **fields: Any) -> None:
        """As Celery's, without the traceback."""
        fields.pop("traceback", None)
        super().send_event(type, **fields)


def announce_queues() -> None:
    """Make this process's workers name the producers' queue among theirs, and refuse to consume it through Celery.

    Celery's consumer would pop messages before it notes them, so that a kill could lose some; the intake does not.
    """
    celerys_answer: Callable[[Any], list[dict[str, Any]]] = Panel.data["active_queues"]
    celerys_consume: Callable[..., Any] = Panel.data["add_consumer"]

    @inspect_command(name="active_queues")
    def active_queues(state: Any) -> list[dict[str, Any]]:
        """List the queues that this worker reads: Celery's, and the producers' queue, which the intake reads."""
        name = state.app.conf["bunce_settings"].namespace
        return [*celerys_answer(state), {"name": name, "routing_key": name, "alias": "read by the intake"}]

    @control_command(name="add_consumer", args=[("queue", str)], signature="<queue>")
    def add_consumer(state: Any, queue: str, *args: Any, **options: Any) -> Any:
        """Tell the worker to consume a queue; the producers' queue is refused."""
        if queue in producer_lists(state.app.conf["bunce_settings"].namespace):
            return {"error": f"{queue} is read by the intake; Celery's consumer could lose messages of it"}
        return celerys_consume(state, queue, *args, **options)


class MessageEvents:
    """Tells in Celery's events what became of producers' messages; one publish for all messages of a step.

    Args:
        hostname: of the worker whose intake it was.
    """

    def __init__(self, app: Celery, hostname: str) -> None:
        self._app = app
        self._hostname = hostname

    def tell(self, messages: Sequence[TakenMessage]) -> None:
        """Publish the events. One that cannot be published is lost: they are a display, nothing depends on them."""
        events = [event for message in messages if message.task_id for event in self._events(message)]
        if not events:
            return
        try:
            with self._app.producer_pool.acquire(block=True) as producer:
                producer.publish(
                    events,
                    routing_key="task.multi",
                    exchange=get_exchange(producer.connection, self._app.conf.event_exchange).name,
                    serializer="json",
                    headers={"hostname": self._hostname},
                    delivery_mode=1,
                    retry=False,
                    declare=[get_exchange(producer.connection, self._app.conf.event_exchange)],
                )
        except OperationalError:
            logger.debug("events of messages not sent", messages=len(messages))

    def _events(self, message: TakenMessage) -> list[Event]:
        ended = time.time()
        about = {"uuid": message.task_id, "name": TASK_NAME, "args": _ARGUMENTS, "kwargs": _ARGUMENTS}
        if message.reason:
            end = self._event("task-failed", ended, uuid=message.task_id, exception=message.reason)
        else:
            counts = f"{{'rows': {message.rows}, 'invalid': {message.invalid}}}"
            runtime = max(0.0, ended - message.claimed_at)
            end = self._event("task-succeeded", ended, uuid=message.task_id, result=counts, runtime=runtime)
        return [
            self._event("task-received", message.claimed_at, **about),
            self._event("task-started", message.claimed_at, uuid=message.task_id),
            end,
        ]

    def _event(self, kind: str, at: float, **fields: Any) -> Any:
        return Event(
            kind,
            timestamp=at,
            hostname=self._hostname,
            utcoffset=utcoffset(),
            pid=os.getpid(),
            clock=self._app.clock.forward(),
            **fields,
        )
