"""The checks in their order. What one finds out of reach ends those that need it, not the others."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import redis

from bunce_attributes.checks import redis_checks, service_checks
from bunce_attributes.checks.findings import Finding, fault, ok
from bunce_attributes.checks.stray_lists import stray_lists
from bunce_attributes.connections import explain, safe_url
from bunce_attributes.outbox.outbox import Outbox
from bunce_attributes.settings import Settings
from bunce_attributes.status import read_snapshot


def run_checks(
    client: redis.Redis, settings: Settings, *, wall_clock: Callable[[], float] = time.time
) -> Iterator[Finding]:
    """Everything, the settings first. Nothing is changed but for one permit of the rate limit."""
    yield from service_checks.settings_found(settings)
    try:
        info: Any = client.info("everything")
    except redis.RedisError as error:
        yield _redis_fault(error, settings)
        return
    yield ok("Redis", f"{safe_url(settings.redis_url)} is there")
    yield from redis_checks.server(info)
    yield from redis_checks.persistence(info, _appendfsync(client))
    yield from redis_checks.memory(info, settings.redis_high_water)
    outbox = Outbox(client, settings)
    for findings in (
        _clock(client, wall_clock),
        service_checks.api(outbox, settings),
        _standing(outbox, settings),
        stray_lists(client, settings.namespace),
    ):
        try:
            yield from findings
        except redis.RedisError as error:
            yield _redis_fault(error, settings)


def _standing(outbox: Outbox, settings: Settings) -> Iterator[Finding]:
    snapshot = read_snapshot(outbox)
    yield from service_checks.workers(snapshot.workers, settings)
    yield from service_checks.standing(snapshot)


def _redis_fault(error: redis.RedisError, settings: Settings) -> Finding:
    return fault("Redis", explain(error, settings.redis_url), "Correct REDIS_URL or mend Redis, and check again.")


def _appendfsync(client: redis.Redis) -> str | None:
    try:
        told: Any = client.config_get("appendfsync")
    except redis.ResponseError:
        return None
    value = told.get("appendfsync", told.get(b"appendfsync"))
    return value.decode() if isinstance(value, bytes) else value


def _clock(client: redis.Redis, wall_clock: Callable[[], float]) -> Iterator[Finding]:
    before = wall_clock()
    told: Any = client.time()
    here = (before + wall_clock()) / 2
    yield redis_checks.clock(here - int(told[0]) - int(told[1]) / 1_000_000)
