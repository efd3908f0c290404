"""What a worker tells the others about itself: that it lives, its release, its settings without secrets."""

from __future__ import annotations

import hashlib
import json
import os
import time
from contextlib import suppress

import redis

from bunce_attributes.outbox.keys import workers_key
from bunce_attributes.settings import Settings
from bunce_attributes.version import __version__

EVERY_SECONDS = 10.0
FORGOTTEN_AFTER_SECONDS = 120.0
SILENT_AFTER_SECONDS = 30.0
"""Three beats were missed: it is taken for dead."""
READS_LAYOUT = 1
"""The highest layout of stored updates that this release reads (docs/upgrading.md)."""
_NOT_SHARED = {"api_key", "api_key_file", "redis_url", "log_format", "log_level"}


def shared_settings(settings: Settings) -> dict[str, object]:
    """The settings on which the workers of a namespace should agree; no secret is among them."""
    values = settings.model_dump(mode="json", exclude=_NOT_SHARED)
    values["base_url"], values["limit_group"] = settings.base_url, settings.limit_group
    if settings.api_key is not None:
        # Whether two workers have the same key shows without either key: a short digest cannot be turned back.
        secret = settings.api_key.get_secret_value().encode()
        values["key_digest"] = hashlib.blake2b(secret, digest_size=4, person=b"bunce-hb").hexdigest()
    return values


class Heartbeat:
    """Writes one field of the workers' hash every ten seconds."""

    def __init__(self, client: redis.Redis, settings: Settings, name: str) -> None:
        self._client = client
        self._key = workers_key(settings.namespace)
        self._name = name
        self._told = {"version": __version__, "reads_layout": READS_LAYOUT, "settings": shared_settings(settings)}
        self._next = 0.0

    def beat(self) -> None:
        """Tell, if it is time."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + EVERY_SECONDS
        told = {**self._told, "pid": os.getpid(), "at": time.time()}
        try:
            self._client.hset(self._key, self._name, json.dumps(told))
        except redis.exceptions.OutOfMemoryError:
            # A full Redis has better uses for its memory.
            return

    def leave(self) -> None:
        """Tell that this worker has stopped, so that nobody looks for it."""
        with suppress(redis.RedisError):
            self._client.hdel(self._key, self._name)
