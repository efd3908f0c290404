"""kill -9 of workers: at each named point, under load, while idle, and of a pool's children."""

from __future__ import annotations

import json
import random
import signal
import threading
import time

import pytest
from tests.acceptance.conftest import MakeStage
from tests.acceptance.harness.checker import overruns, refusals
from tests.acceptance.harness.deadline import until
from tests.acceptance.harness.stage import Stage
from tests.acceptance.harness.workers import Worker

from bunce_attributes.celery_message import update_message
from bunce_attributes.updates import Lane

# A lease of 2 x 0.5 + 5 = 6 s.
SHORT_LEASE = {"BUNCE_REQUEST_TIMEOUT_SECONDS": "0.5", "BUNCE_UNKNOWN_HOLD_SECONDS": "0.5"}
LEASE_SECONDS = 6
INTAKE_LEASE_SECONDS = 15


def killed_itself(worker: Worker) -> None:
    assert worker.ended(seconds=20) == -signal.SIGKILL, worker.text()


def killed_at_its_point_and_replaced(stages: dict[str, Stage]) -> None:
    victims = [stage.start(BUNCE_TEST_KILL_AT=point) for point, stage in stages.items()]
    for victim in victims:
        killed_itself(victim)
    for stage in stages.values():
        stage.start()


def test_rows_of_a_worker_killed_around_its_call_are_saved(make_stage: MakeStage) -> None:
    """Its lease ends after seconds, without an operator; only a call whose answer was lost is made again."""
    stages = {point: make_stage(settings=SHORT_LEASE) for point in ("before_call", "after_call", "after_settle")}
    for stage in stages.values():
        stage.enqueue([f"c{number}" for number in range(100)])
    killed_at_its_point_and_replaced(stages)
    for point, stage in stages.items():
        stage.drain(seconds=LEASE_SECONDS + 15)
        assert stage.findings().all == (), point
        assert stage.status()["counts"]["saved"] == 100, point
        assert ("calls were lost with their worker" in stage.workers[-1].text()) == (point != "after_settle")
        calls = [call["row_count"] for call in stage.sandbox.calls(rows=False)]
        assert calls == ([100, 100] if point == "after_call" else [100]), point


def enqueue_in_one_message(stage: Stage, customers: list[str]) -> None:
    """As any Celery application may; our own client would send a message for each thousand."""
    rows = stage.work.rows(customers)
    texts = [json.dumps(row) for row in rows]
    queue = stage.outbox.namespace
    stage.client.lpush(queue, update_message(texts, queue=queue, lane=Lane.LIVE, enqueued_at=time.time()))
    stage.work.took(rows)


def test_messages_of_a_killed_reader_are_taken_in_once(make_stage: MakeStage) -> None:
    """They lie in the queue until their rows are in the outbox; a large message goes on where it was left."""
    stages = {point: make_stage() for point in ("intake_before_accept", "intake_after_accept:2")}
    victims = []
    for point, stage in stages.items():
        enqueue_in_one_message(stage, [f"c{number}" for number in range(3000)])
        stage.enqueue(["c0"], stamp=False)
        victims.append(stage.start(BUNCE_TEST_KILL_AT=point))
    for victim in victims:
        killed_itself(victim)
    for point, stage in stages.items():
        assert (stage.status()["counts"].get("received", 0) > 0) == point.startswith("intake_after")
        stage.start()
    for point, stage in stages.items():
        stage.drain(seconds=INTAKE_LEASE_SECONDS + 15)
        assert stage.status()["counts"]["received"] == 3001, point
        assert stage.findings().all == (), point


def test_a_message_published_when_an_idle_worker_dies_is_not_lost(stage: Stage) -> None:
    """Celery's own consumer loses one in most such moments: it pops a message before it notes it."""
    victims = stage.start_ready(2)
    for number, victim in enumerate(victims):
        publish = threading.Thread(target=stage.enqueue, args=([f"idle{number}"],))
        victim.process.send_signal(signal.SIGKILL)
        publish.start()
        stage.enqueue([f"main{number}"])
        publish.join()
    stage.start()
    stage.drain(seconds=INTAKE_LEASE_SECONDS + 15)
    assert stage.findings().all == ()
    assert stage.status()["counts"]["received"] == 4


def test_a_kill_costs_no_row_an_attempt_and_one_call_at_most(make_stage: MakeStage) -> None:
    """Only rows whose refusal was never noted, because their worker died with the answer, are in one call more."""
    poison = [f"poison{number}" for number in range(10)]
    stages = {point: make_stage(settings=SHORT_LEASE) for point in ("before_call:2", "after_call:2", "after_settle:2")}
    for stage in stages.values():
        stage.sandbox.put_faults({"refuse": [{"customer_id": poison}]})
        stage.enqueue(poison + [f"c{number}" for number in range(90)])
    killed_at_its_point_and_replaced(stages)
    for point, stage in stages.items():
        stage.drain(seconds=LEASE_SECONDS + 20)
        refused = 6 if point.startswith("after_call") else 5
        assert refusals(stage.sandbox.calls()) == dict.fromkeys(poison, refused), point
        assert stage.status()["counts"]["saved"] == 90, point
        assert set(stage.dead()) == set(poison), point
        assert stage.findings().all == (), point


def test_calls_of_killed_workers_count_against_the_limit(make_stage: MakeStage) -> None:
    """Whether the server saw them or not, nobody knows: their permits outlive the lease by the minute's window."""
    # So many at once that pacing would let as many again through when they are given back.
    limit = 12
    calls_allowed = {"BUNCE_REQUESTS_PER_MINUTE": str(limit), "BUNCE_MAX_CONCURRENT_CALLS": "10"}
    stage = make_stage(
        settings={**SHORT_LEASE, **calls_allowed, "BUNCE_BATCH_MAX_ROWS": "10"}, sandbox=("--latency", "0.3")
    )
    stage.enqueue([f"c{number}" for number in range(500)])
    killed_itself(stage.start(BUNCE_TEST_KILL_AT="after_call"))
    stage.start()
    until("the lost calls were given back", lambda: stage.status()["leased"] == 0, seconds=LEASE_SECONDS + 10)
    spent = time.monotonic()
    until("their rows could be sent again", lambda: time.monotonic() - spent > 3, seconds=5)
    status = stage.status()
    assert status["counts"]["calls_lost"] >= 1
    assert overruns(stage.sandbox.calls(rows=False), per_minute=limit) == ()
    assert status["gate"]["permits_used"] == limit


def kill_under_load(stage: Stage, *, rows: int, kills: int, every: float, workers: int, seed: int) -> float:
    """Kill and replace whole workers while rows come in; the seconds from the last kill until nothing waits."""
    chance = random.Random(seed)
    customers = [f"few{number}" for number in range(50)] + [f"many{number}" for number in range(rows)]
    stage.start_ready(workers)
    over = threading.Event()

    def produce() -> None:
        left = rows
        while left and not over.is_set():
            size = min(left, chance.randint(50, 250))
            left -= size
            picked = [
                customers[chance.randrange(50) if chance.random() < 0.2 else chance.randrange(len(customers))]
                for _ in range(size)
            ]
            stage.enqueue(picked, stamp=chance.random() < 0.5)
            over.wait(every * kills * size / rows)

    producer = threading.Thread(target=produce)
    producer.start()
    killer = random.Random(seed + 1)
    try:
        for _ in range(kills):
            time.sleep(every)
            killer.choice(stage.living).kill()
            stage.start()
        last = time.monotonic()
        producer.join()
    finally:
        over.set()
        producer.join()
    stage.drain(seconds=110)
    return time.monotonic() - last


def test_whole_workers_killed_under_load_lose_nothing(make_stage: MakeStage) -> None:
    stage = make_stage(settings=SHORT_LEASE, sandbox=("--latency", "0.1"))
    took = kill_under_load(stage, rows=3000, kills=3, every=1.5, workers=2, seed=11)
    assert stage.findings().all == ()
    assert took < 60


@pytest.mark.soak
def test_six_kills_of_whole_workers_under_load_lose_nothing(make_stage: MakeStage) -> None:
    stage = make_stage(
        settings={"BUNCE_REQUEST_TIMEOUT_SECONDS": "2", "BUNCE_UNKNOWN_HOLD_SECONDS": "10"},
        sandbox=("--latency", "0.2"),
    )
    took = kill_under_load(stage, rows=12_000, kills=6, every=1.5, workers=3, seed=12)
    assert stage.findings().all == ()
    assert took < 110


def test_killed_children_of_a_pool_cost_seconds(make_stage: MakeStage) -> None:
    """prefork: the main process replaces them, and the leases of the calls that they were making end."""
    stage = make_stage(settings=SHORT_LEASE, sandbox=("--latency", "0.3"))
    worker = stage.start(pool="prefork", concurrency=3).ready()
    stage.enqueue([f"c{number}" for number in range(3000)])
    for _ in range(2):
        until("calls are in flight", lambda: stage.status()["calls_running"] >= 2, seconds=15, every=0.01)
        for child in worker.children():
            child.kill()
        stage.enqueue([f"c{number}" for number in range(500)])
    stage.drain(seconds=60)
    assert worker.alive
    assert stage.status()["counts"]["calls_lost"] > 0
    assert stage.findings().all == ()
