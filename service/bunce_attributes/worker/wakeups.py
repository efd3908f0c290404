"""Sending wake-ups: Celery messages without data, whose id is the token of the slot they were given."""

from __future__ import annotations

from uuid import uuid4

from celery import Celery

from bunce_attributes.outbox.keys import work_queue
from bunce_attributes.worker.celery_app import DELIVER_TASK, INTAKE_TASK


class WakeUps:
    """Sends wake-ups of one namespace through one Celery application."""

    def __init__(self, app: Celery, namespace: str) -> None:
        self._app = app
        self._queue = work_queue(namespace)

    def intake(self) -> None:
        """Ask some worker to read the queue.

        Raises:
            kombu.exceptions.OperationalError: the broker refuses or is out of reach; nothing is retried.
        """
        self._send(INTAKE_TASK, uuid4().hex)

    def deliver(self, token: str) -> None:
        """Ask some worker to make a call in the slot of ``token``. Raises as :meth:`intake`."""
        self._send(DELIVER_TASK, token)

    def _send(self, task: str, task_id: str) -> None:
        # No expires: it is judged by the reader's wall clock, and one that is off by minutes would drop everything.
        self._app.send_task(
            task, task_id=task_id, queue=self._queue, retry=False, ignore_result=True, argsrepr="()", kwargsrepr="{}"
        )


def new_tokens(count: int) -> list[str]:
    """Tokens for slots that a poll may reserve."""
    return [uuid4().hex for _ in range(count)]
