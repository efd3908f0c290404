"""The housekeeping of the dispatcher: retention ends, and nothing of it can stop a turn."""

from __future__ import annotations

import json
import time

import pytest
from redis import Redis
from tests.redis.station import Station, row

from bunce_attributes.worker.housekeeping import EVERY_SECONDS, NEXT_TURN_SECONDS, Housekeeping

DAY_MS = 86_400_000


@pytest.fixture
def station(redis_client: Redis, redis_url: str) -> Station:
    return Station(redis_client, redis_url, dead_retention_days=1.0)


class Clock:
    """Monotonic seconds that a test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def age(station: Station, days: float) -> None:
    for letter in station.letters.walk():
        station.client.zadd(f"{station.ns}:dead:index", {letter.id: letter.died_at_ms - round(days * DAY_MS)})


def test_retention_ends_once_a_minute(station: Station) -> None:
    clock = Clock()
    keeping = Housekeeping(station.outbox, station.settings, clock=clock)
    station.die(row("c1"))
    age(station, 1.5)
    keeping.tidy()
    assert len(station.letters) == 1
    clock.now += EVERY_SECONDS
    keeping.tidy()
    assert len(station.letters) == 0
    assert station.figures()["purged"] == 1


def test_more_than_a_turn_takes_is_done_in_the_next_ones(station: Station, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bunce_attributes.worker.housekeeping.MOST_AT_ONCE", 200)
    clock = Clock()
    keeping = Housekeeping(station.outbox, station.settings, clock=clock)
    for _ in range(3):
        station.put(*({"id": "no uuid"} for _ in range(100)))
    age(station, 2)
    clock.now += EVERY_SECONDS
    keeping.tidy()
    assert len(station.letters) == 100
    clock.now += NEXT_TURN_SECONDS
    keeping.tidy()
    assert len(station.letters) == 0


def test_a_dead_letter_of_a_later_release_stops_no_turn(station: Station) -> None:
    station.client.hset(f"{station.ns}:dead", "1700000000000-1", '{"layout":9}')
    station.client.zadd(f"{station.ns}:dead:index", {"1700000000000-1": 1_700_000_000_000})
    clock = Clock()
    keeping = Housekeeping(station.outbox, station.settings, clock=clock)
    clock.now += EVERY_SECONDS
    keeping.tidy()
    assert len(station.letters) == 1


def test_workers_that_are_long_gone_are_forgotten(station: Station) -> None:
    beats = {"gone": time.time() - 7_200, "here": time.time()}
    for name, at in beats.items():
        station.client.hset(f"{station.ns}:workers", name, json.dumps({"at": at}))
    clock = Clock()
    keeping = Housekeeping(station.outbox, station.settings, clock=clock)
    clock.now += EVERY_SECONDS
    keeping.tidy()
    assert station.client.hkeys(f"{station.ns}:workers") == [b"here"]
