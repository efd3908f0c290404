"""Redis away, cut off, full, emptied of scripts or silent: the workers go on by themselves."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest
from tests.acceptance.conftest import MakeStage
from tests.acceptance.harness.deadline import until
from tests.acceptance.harness.proxy import SilentProxy
from tests.acceptance.harness.stage import Stage


class Producing:
    """New values of 40 keys, all the time, until the block ends; a Redis that is away is no error."""

    def __init__(self, stage: Stage, *, rows: int = 20, pause: float = 0.05) -> None:
        self._stage = stage
        self._rows = rows
        self._pause = pause
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Producing:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        count = 0
        while not self._over.is_set():
            count += 1
            self._stage.enqueue(
                [f"k{(count * self._rows + number) % 40}" for number in range(self._rows)], stamp=count % 2 == 0
            )
            self._over.wait(self._pause)


def saved(stage: Stage) -> int:
    return int(stage.status()["counts"].get("saved", 0))


def more_saved_than(stage: Stage, count: int) -> Callable[[], bool]:
    return lambda: saved(stage) > count


def kill_redis_twice_under_load(stage: Stage) -> None:
    """With a task in flight each time, and free prefetch."""
    with Producing(stage):
        for _ in range(2):
            until("a call is in flight", lambda: stage.status()["calls_running"], seconds=15, every=0.01)
            stage.server.kill()
            time.sleep(1)
            stage.server.start()
            until("calls are made again", more_saved_than(stage, saved(stage)), seconds=30)


@pytest.mark.parametrize("pool", ["threads", "prefork"])
def test_redis_killed_twice_under_load_loses_nothing(make_stage: MakeStage, pool: str) -> None:
    """Celery 5.7 ends its worker here; the dispatcher must go on, so that a last partial call is still sent."""
    stage = make_stage(sandbox=("--latency", "0.2"))
    worker = stage.start(pool=pool, concurrency=3).ready()
    kill_redis_twice_under_load(stage)
    stage.drain(seconds=40)
    stage.enqueue(["the last partial call"])
    stage.drain(seconds=20)
    assert worker.alive
    assert stage.findings().all == ()


def test_every_connection_cut_under_load_loses_nothing(make_stage: MakeStage) -> None:
    stage = make_stage(sandbox=("--latency", "0.1"))
    worker = stage.start_ready()[0]
    with Producing(stage):
        for _ in range(5):
            until("a call is in flight", lambda: stage.status()["calls_running"], seconds=15, every=0.01)
            stage.client.client_kill_filter(_type="normal", skipme=True)
            time.sleep(0.4)
    stage.drain(seconds=30)
    stage.enqueue(["afterwards"])
    stage.drain(seconds=20)
    assert worker.alive
    assert stage.findings().all == ()


def test_forgotten_scripts_are_loaded_again(make_stage: MakeStage) -> None:
    stage = make_stage(sandbox=("--latency", "0.05"))
    stage.start_ready()
    with Producing(stage):
        for _ in range(10):
            stage.client.script_flush()
            time.sleep(0.15)
    stage.drain(seconds=20)
    assert stage.findings().all == ()


def test_a_worker_waits_for_a_redis_that_is_not_there_yet(make_stage: MakeStage) -> None:
    stage = make_stage()
    stage.enqueue(["early"])
    stage.server.stop()
    worker = stage.start()
    for told in ("Redis is out of reach", "Cannot connect to redis"):
        until(f"the worker tells: {told}", lambda told=told: told in worker.text(), seconds=20, explain=worker.text)
    stage.server.start()
    stage.drain(seconds=30)
    assert worker.alive
    assert stage.findings().all == ()


def test_a_full_redis_drains_by_itself(make_stage: MakeStage) -> None:
    """noeviction: producers get a clear error, and intake and calls go on without wake-ups, which Redis refuses."""
    stage = make_stage(sandbox=("--latency", "0.02"))
    memory = stage.client.info("memory")
    assert isinstance(memory, dict)
    stage.client.config_set("maxmemory", int(memory["used_memory"]) + 12_000_000)
    number = 0
    for size in (50, 1):
        while stage.enqueue([f"c{number + n}" for n in range(size)], bulk=8000):
            number += size
            assert number < 10_000, "Redis never was full"
    assert "is full" in stage.failure
    assert "raise maxmemory" in stage.failure
    stage.start()
    stage.drain(seconds=40)
    assert stage.enqueue(["afterwards"])
    stage.drain(seconds=20)
    assert stage.findings().all == ()
    assert stage.status()["counts"]["received"] > 500


@pytest.mark.soak
@pytest.mark.parametrize("pool", ["threads", "prefork"])
def test_half_open_connections_cost_less_than_a_minute(make_stage: MakeStage, pool: str) -> None:
    stage = make_stage(sandbox=("--latency", "0.1"))
    proxy = SilentProxy(stage.server.port)
    through = stage.url.replace(f":{stage.server.port}/", f":{proxy.port}/")
    try:
        worker = stage.start(pool=pool, concurrency=3, REDIS_URL=through).ready()
        for _ in range(2):
            with Producing(stage):
                until("a call is in flight", lambda: stage.status()["calls_running"], seconds=15, every=0.01)
                assert proxy.silence() > 0
                until("calls are made again", more_saved_than(stage, saved(stage) + 100), seconds=60)
        stage.drain(seconds=60)
        assert worker.alive
        assert stage.findings().all == ()
    finally:
        proxy.close()
