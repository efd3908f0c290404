"""Lists with messages for us that nobody reads: what a producer with other options than ours leaves behind."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from typing import Any

from redis import Redis

from bunce_attributes.celery_message import TASK_NAME
from bunce_attributes.checks.findings import Finding, fault, ok, warning
from bunce_attributes.outbox.keys import producer_lists

MOST_KEYS = 200_000
"""Looked at in a database that other applications fill: some seconds."""
SAMPLE = 5
MOST_MESSAGES = 1_000
"""In a longer list it is not told whether all messages are ours."""
_OURS = (":work", ":ready:", ":group:", ":braked:", ":scheduled:due")
_SEPARATOR = "\x06\x16"


def stray_lists(client: Redis, namespace: str) -> Iterator[Finding]:
    """Lists of this database that hold messages of our task, or stand beside the queue, and are read by nobody.

    Raises:
        redis.exceptions.RedisError: Redis is out of reach.
    """
    found = False
    names = client.scan_iter(count=1_000, _type="list")
    for raw_name in islice(names, MOST_KEYS):
        name = raw_name.decode("utf-8", "backslashreplace")
        if name in producer_lists(namespace) or name.startswith(tuple(namespace + part for part in _OURS)):
            continue
        waiting = int(_now(client.llen(raw_name)))
        if name.startswith(namespace + _SEPARATOR):
            found = True
            yield fault(
                "lists",
                f"{name!r} holds {waiting:,} messages of a priority that nobody reads",
                "Let the producer use Celery's priority_steps 0, 3, 6, 9 and the default separator, and move what lies "
                f"there into the list {namespace!r}.",
            )
        elif _holds_ours(client, raw_name) and not client.exists(f"{name}:versions", f"{name}:workers"):
            found = True
            route = f'task_routes = {{"{TASK_NAME}": {{"queue": "{namespace}"}}}}'
            mend = f"Route the task in the producer: {route}, without global_keyprefix; and "
            if waiting <= MOST_MESSAGES and all(_is_ours(one) for one in _now(client.lrange(raw_name, 0, -1))):
                mend += "move what lies there: "
                mend += f"redis-cli LMOVE {json.dumps(name)} {json.dumps(namespace)} RIGHT LEFT, once for each message."
            else:
                mend += "enqueue those rows again: other messages lie between them, so that they cannot just be moved."
            yield fault(
                "lists",
                f"{name!r} holds {waiting:,} messages, among them some for {TASK_NAME}, which nobody reads there",
                mend,
            )
    if next(names, None) is not None:
        yield warning("lists", f"only {MOST_KEYS:,} lists were looked at", "Give this service a database of its own.")
    elif not found:
        yield ok("lists", "no message for us lies in a list that nobody reads")


def _holds_ours(client: Redis, name: bytes) -> bool:
    sample = [*_now(client.lrange(name, 0, SAMPLE - 1)), *_now(client.lrange(name, -SAMPLE, -1))]
    return any(_is_ours(message) for message in sample)


def _is_ours(message: bytes) -> bool:
    if TASK_NAME.encode() not in message:
        return False
    try:
        return bool(json.loads(message)["headers"]["task"] == TASK_NAME)
    except (ValueError, LookupError, TypeError, RecursionError):
        return False


def _now(answer: Any) -> Any:
    # redis-py's stubs join its synchronous and asynchronous clients.
    return answer
