"""One call by a worker whose time runs while it works: what it must not send, and what it must not forget."""

from __future__ import annotations

import json
from typing import Any

import pytest
import redis
from redis import Redis
from tests.redis.station import Station, row

from bunce_attributes.answers import Answer
from bunce_attributes.bunce_api import BunceApi
from bunce_attributes.delivery import CallReport, Delivery
from bunce_attributes.outbox.outbox import Outbox


class Api(BunceApi):
    """Takes some seconds for each call and saves every row."""

    def __init__(self, time: list[float], seconds: float) -> None:
        self._time = time
        self._seconds = seconds
        self.calls = 0

    def send(self, rows: tuple[bytes, ...], deadline_seconds: float) -> Answer:
        self.calls += 1
        self._time[0] += self._seconds
        return Answer(200, {}, json.dumps({"success": True, "data": {"errors": {}}}).encode())


class Worker:
    """A delivery on a clock of its own; ``starved`` seconds pass between its claim and its call."""

    def __init__(
        self, station: Station, *, starved: float = 0.0, answer_takes: float = 0.1, stopping: bool = False
    ) -> None:
        self.time = [1000.0]
        self.api = Api(self.time, answer_takes)

        def fault(point: str) -> None:
            self.time[0] += starved if point == "before_call" else 0.0

        def sleep(seconds: float) -> None:
            self.time[0] += seconds

        self.delivery = Delivery(
            station.outbox,
            self.api,
            station.settings,
            fault=fault,
            stopping=lambda: stopping,
            clock=lambda: self.time[0],
            sleep=sleep,
        )

    def deliver(self) -> CallReport:
        report = self.delivery.deliver("no token")
        assert isinstance(report, CallReport), report
        return report


@pytest.fixture
def station(redis_client: Redis, redis_url: str) -> Station:
    """A row waits. The lease is 2 x 10 + 5 s."""
    made = Station(redis_client, redis_url, request_timeout_seconds=10.0)
    made.put(row("a"))
    return made


def test_a_worker_with_too_little_of_its_lease_left_sends_nothing(station: Station) -> None:
    """Another one might have the rows, and a newer value saved, before an answer could come."""
    starved = Worker(station, starved=15.1)
    assert starved.deliver().released == 1
    assert starved.api.calls == 0
    assert Worker(station, starved=14.9).deliver().saved == 1


class UnreachableFor:
    """The first ``times`` settlements do not reach Redis."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, times: int) -> None:
        self.tries = 0
        settle = Outbox.settle

        def unreachable(*args: Any, **more: Any) -> Any:
            self.tries += 1
            if self.tries <= times:
                raise redis.ConnectionError
            return settle(*args, **more)

        monkeypatch.setattr(Outbox, "settle", unreachable)


def test_an_answer_that_cannot_be_noted_is_tried_again_while_the_lease_lasts(
    station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    UnreachableFor(monkeypatch, 50)
    worker = Worker(station)
    report = worker.deliver()
    assert (report.saved, report.lost, worker.api.calls) == (1, False, 1)
    assert station.figures()["saved"] == 1


def test_a_worker_gives_up_noting_its_answer_when_its_lease_ends(
    station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    UnreachableFor(monkeypatch, 10_000)
    worker = Worker(station)
    with pytest.raises(redis.ConnectionError):
        worker.deliver()
    assert worker.time[0] <= 1000.0 + station.settings.lease_seconds
    assert station.figures()["waiting"] == 1


def test_an_answer_that_comes_after_the_rows_were_given_back_is_told_as_lost(station: Station) -> None:
    worker = Worker(station)
    station.outbox.now_ms = station.outbox.status()["now_ms"]

    def late(rows: tuple[bytes, ...], deadline_seconds: float) -> Answer:
        station.outbox.now_ms += round(station.settings.lease_seconds * 1000) + 1
        station.outbox.poll([])
        return Api.send(worker.api, rows, deadline_seconds)

    worker.api.send = late  # type: ignore[method-assign]  # only of this one
    report = worker.deliver()
    assert (report.lost, report.saved) == (True, 0)
    assert station.figures()["waiting"] == 1


def test_a_worker_that_is_told_to_stop_tries_for_seconds_only(
    station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An orchestrator kills it otherwise; the lease gives the rows back in any case."""
    UnreachableFor(monkeypatch, 10_000)
    worker = Worker(station, answer_takes=7.0, stopping=True)
    with pytest.raises(redis.ConnectionError):
        worker.deliver()
    assert 1000.0 + 7 < worker.time[0] <= 1000.0 + 7 + 3
