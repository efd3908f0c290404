"""Sending wake-ups: Celery messages without data, whose id is the token of the slot they were given.

They are written as bytes, because Celery's own publishing costs more than all else that a wake-up does: several go
with one command, over the connection that the outbox uses anyway.
"""

from __future__ import annotations

import json
import os
import socket
from base64 import b64encode
from collections.abc import Callable
from uuid import uuid4

import redis

from bunce_attributes.outbox.keys import work_queue
from bunce_attributes.outbox.outbox import Outbox, Work
from bunce_attributes.worker.celery_app import DELIVER_TASK, INTAKE_TASK

_NO_ARGUMENTS = b64encode(b'[[], {}, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]').decode()


class WakeUps:
    """Sends the wake-ups of one namespace."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._queue = work_queue(outbox.namespace)
        self._deliver = _writer(DELIVER_TASK, self._queue)
        self._intake = _writer(INTAKE_TASK, self._queue)

    def send(self, work: Work) -> bool:
        """Send what ``work`` asks for.

        Returns:
            Whether that was done. If it was not, the slots are given back: a Redis that is full takes no message, and
            one more would be of no use where wake-ups lie untaken; the dispatchers then do the work themselves.

        Raises:
            redis.exceptions.RedisError: Redis is out of reach; the slots are free when their reservation ends.
        """
        messages = [self._deliver(token) for token in work.call_tokens]
        if work.intake:
            messages.append(self._intake(uuid4().hex))
        if not messages:
            return True
        if not work.piled_up:
            try:
                self._outbox.client.lpush(self._queue, *messages)
            except redis.ResponseError:
                # Full, read-only, loading: refused whole.
                pass
            else:
                return True
        self.give_up(work)
        return False

    def give_up(self, work: Work) -> None:
        """Give back the slots of wake-ups that are not sent. Raises as :meth:`send`."""
        for token in work.call_tokens:
            self._outbox.give_up_wakeup(token)
        if work.intake:
            self._outbox.give_up_intake_wakeup()


def _writer(task: str, queue: str) -> Callable[[str], bytes]:
    """Writes messages of one task: Celery's protocol 2 as kombu keeps it in a Redis list.

    They have no ``expires``: that is judged by the reader's wall clock, and one that is off by minutes would drop
    everything.
    """
    mark = "\0"
    text = json.dumps(
        {
            "body": _NO_ARGUMENTS,
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": {
                "lang": "py",
                "task": task,
                "id": mark,
                "root_id": mark,
                "parent_id": None,
                "group": None,
                "eta": None,
                "expires": None,
                "retries": 0,
                "timelimit": [None, None],
                "argsrepr": "()",
                "kwargsrepr": "{}",
                "origin": f"{os.getpid()}@{socket.gethostname()}",
                "ignore_result": True,
            },
            "properties": {
                "correlation_id": mark,
                "delivery_mode": 2,
                "delivery_info": {"exchange": "", "routing_key": queue},
                "priority": 0,
                "body_encoding": "base64",
                "delivery_tag": mark,
            },
        }
    )
    parts = text.split(json.dumps(mark)[1:-1])

    def write(task_id: str) -> bytes:
        return task_id.join(parts).encode()

    return write


def new_tokens(count: int) -> list[str]:
    """Tokens for slots that a poll may reserve."""
    root = uuid4().hex
    return [f"{root}-{number}" for number in range(count)]
