"""What some worker does once a minute: end the retention of dead letters, forget workers that are long gone."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import redis

from bunce_attributes.connections import explain
from bunce_attributes.dead_letters import DeadLetters
from bunce_attributes.outbox.keys import workers_key
from bunce_attributes.outbox.outbox import Outbox
from bunce_attributes.settings import Settings
from bunce_attributes.worker.heartbeat import FORGOTTEN_AFTER_SECONDS
from bunce_attributes.worker.logs import logger

EVERY_SECONDS = 60.0
MOST_AT_ONCE = 2_000
"""Dead letters in one turn, about 50 ms of the dispatcher's time; more are left to the next turn, a second later."""
NEXT_TURN_SECONDS = 1.0


class Housekeeping:
    """The dispatcher asks at every turn; it costs nothing until the minute is over. No error of it ends a turn."""

    def __init__(self, outbox: Outbox, settings: Settings, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._client: Any = outbox.client
        self._workers = workers_key(outbox.namespace)
        self._letters = DeadLetters(outbox, settings.remembered_seconds)
        self._retention_days = settings.dead_retention_days
        self._redis_url = settings.redis_url
        self._clock = clock
        self._next = clock() + EVERY_SECONDS

    def tidy(self) -> None:
        """Do what is due, if it is time."""
        now = self._clock()
        if now < self._next:
            return
        self._next = now + EVERY_SECONDS
        try:
            purged = self._letters.purge_expired(self._retention_days, most=MOST_AT_ONCE)
            self._forget_workers()
        except (redis.RedisError, ValueError) as error:
            logger.warning("housekeeping is put off", reason=explain(error, self._redis_url))
            return
        if purged:
            logger.info("retention of dead letters ended", purged=purged)
        if purged >= MOST_AT_ONCE:
            self._next = now + NEXT_TURN_SECONDS

    def _forget_workers(self) -> None:
        seconds, _ = self._client.time()
        gone = [
            name
            for name, told in self._client.hgetall(self._workers).items()
            if int(seconds) - float(json.loads(told).get("at", 0)) > 10 * FORGOTTEN_AFTER_SECONDS
        ]
        if gone:
            self._client.hdel(self._workers, *gone)
