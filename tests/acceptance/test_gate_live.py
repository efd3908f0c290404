"""The gate and the poison rows, with three real workers: what docs/answers.md promises, seen from the API's side."""

from __future__ import annotations

import time

import pytest
from tests.acceptance.conftest import MakeStage
from tests.acceptance.harness.checker import most_in_window
from tests.acceptance.harness.deadline import until
from tests.acceptance.harness.stage import Stage

PATIENT = {"BUNCE_REQUEST_TIMEOUT_SECONDS": "5", "BUNCE_MAX_CONCURRENT_CALLS": "4"}


def customers(count: int, prefix: str = "c") -> list[str]:
    return [f"{prefix}{number}" for number in range(count)]


def test_a_429_meets_only_the_calls_in_flight_and_costs_no_attempt(make_stage: MakeStage) -> None:
    stage = make_stage(settings={**PATIENT, "BUNCE_REQUESTS_PER_MINUTE": "475", "BUNCE_MAX_ATTEMPTS": "1"})
    stage.start_ready(3)
    stage.sandbox.put_faults(
        {"latency": 0.2, "calls": [{"do": "answer", "status": 429, "retry_after": "4", "for_seconds": 3.5}]}
    )
    stage.enqueue(customers(1500))
    stage.drain(seconds=60)

    calls = stage.sandbox.calls(rows=False)
    refused = [call for call in calls if call["status"] == 429]
    passed = [call for call in calls if call["status"] == 200]
    assert 1 <= len(refused) <= 4
    assert min(call["received_at"] for call in passed) >= min(call["answered_at"] for call in refused) + 3.9
    opening = sorted(call["received_at"] for call in passed)
    assert opening[5] - opening[0] >= 0.3, "opening again must be staggered, not a stampede"
    assert stage.status()["dead"] == 0
    assert stage.findings().all == ()


def test_a_wrong_key_costs_a_handful_of_calls_and_no_row(make_stage: MakeStage) -> None:
    stage = make_stage(settings={**PATIENT, "BUNCE_MAX_ATTEMPTS": "1"})
    stage.sandbox.put_faults({"calls": [{"do": "answer", "status": 401}]})
    workers = stage.start_ready(3)
    stage.enqueue(customers(1500))
    until("the gate closes", lambda: stage.status()["gate"]["state"] == "paused", seconds=20)
    first = stage.sandbox.stats()["requests"]
    until("the calls in flight have ended", lambda: stage.status()["calls_running"] == 0, seconds=10)
    closed = time.monotonic()
    until("eight seconds have passed", lambda: time.monotonic() - closed > 8, seconds=10)

    status = stage.status()
    assert sum(stage.sandbox.stats()["requests"].values()) <= 5, first
    assert status["dead"] == 0
    assert status["waiting"] == 1500
    assert status["gate"]["reason"] == "misconfigured"
    assert "BUNCE_API_KEY" in status["gate"]["detail"]
    loud = sum(worker.text().count("refuses the key") for worker in workers)
    assert 1 <= loud <= 4, "in the log once for each call in flight, not once a row or a tick"


def test_one_poison_row_among_300_costs_only_itself(make_stage: MakeStage) -> None:
    stage = make_stage(settings=PATIENT)
    stage.sandbox.put_faults({"calls": [{"do": "answer", "status": 422, "customer_id": ["c77"]}]})
    stage.start_ready(3)
    stage.enqueue(customers(300))
    stage.drain(seconds=60)

    assert stage.dead() == {"c77": 1}
    assert stage.status()["counts"]["saved"] == 299
    assert sum(stage.sandbox.stats()["requests"].values()) <= 30
    sends = stage.sandbox.sends()
    assert len(sends) == len({send["identity"] for send in sends}) == 299, "innocents are saved once"
    refused_alone = [c for c in stage.sandbox.calls() if c["status"] == 422 and c["row_count"] == 1]
    assert len(refused_alone) == 5


def test_a_row_that_makes_the_server_fail_is_found_while_others_pass(make_stage: MakeStage) -> None:
    """500 for one row: no outage, because other calls pass; they are also what proves that it is this row."""
    stage = make_stage(settings={**PATIENT, "BUNCE_UNKNOWN_HOLD_SECONDS": "0.3"})
    stage.sandbox.put_faults({"calls": [{"do": "answer", "status": 500, "customer_id": ["c77"]}]})
    stage.start_ready(3)
    stage.enqueue(customers(300))
    number = 0

    def dead_while_others_pass() -> bool:
        nonlocal number
        number += 1
        stage.enqueue([f"other{number}"])
        return stage.status()["dead"] == 1

    until("the poison row is a dead letter", dead_while_others_pass, seconds=60, every=0.3)
    stage.drain(seconds=30)
    assert stage.dead() == {"c77": 1}
    sends = stage.sandbox.sends()
    assert sum(send["identity"].startswith("c") for send in sends) == 299
    refused_alone = [c for c in stage.sandbox.calls() if c["status"] == 500 and c["row_count"] == 1]
    assert len(refused_alone) >= 5, "five attempts, and maybe failures that nothing passed beside"


def test_an_attribute_that_is_refused_throughout_pauses_and_the_others_go_on(make_stage: MakeStage) -> None:
    stage = make_stage(settings={**PATIENT, "BUNCE_BRAKE_MIN_ROWS": "50", "BUNCE_BATCH_MAX_ROWS": "20"})
    wrong = "11111111-1111-4111-8111-111111111111"
    stage.sandbox.put_faults({"refuse": [{"id": wrong, "message": "Attribute does not exist."}]})
    stage.start_ready(2)
    rows = [{"id": wrong, "customer_id": f"w{number}", "value": "1"} for number in range(500)]
    stage.updates.enqueue_many(rows)
    stage.enqueue(customers(100))

    until("the brake is on", lambda: len(stage.status()["brakes"]) == 1, seconds=30)
    until("the others are saved", lambda: stage.status()["counts"].get("saved", 0) == 100, seconds=30)
    until("rows of the braked attribute wait", lambda: stage.status()["braked"] > 0, seconds=30)
    assert stage.status()["dead"] < 200

    stage.sandbox.reset_faults()
    assert stage.outbox.resume(wrong)
    until("drained", lambda: stage.status()["waiting"] == 0, seconds=30)
    status = stage.status()
    assert status["counts"]["saved"] == 600 - status["dead"]


@pytest.mark.soak
def test_no_minute_sees_more_calls_than_allowed_and_few_go_unused(make_stage: MakeStage) -> None:
    stage: Stage = make_stage(settings={**PATIENT, "BUNCE_REQUESTS_PER_MINUTE": "60"})
    stage.sandbox.put_faults({"calls": [{"do": "answer", "status": 500, "every": 5}]})
    stage.start_ready(3)
    stage.enqueue(customers(20_000))
    started = time.monotonic()
    until("130 seconds have passed", lambda: time.monotonic() - started > 130, seconds=140, every=1)
    moments = [call["received_at"] for call in stage.sandbox.calls(rows=False)]
    assert most_in_window(moments) <= 60
    first = min(moments)
    assert sum(first <= moment < first + 60 for moment in moments) >= 40


@pytest.mark.soak
def test_a_mended_key_is_found_within_a_minute(make_stage: MakeStage) -> None:
    stage = make_stage(settings=PATIENT)
    stage.sandbox.put_faults({"calls": [{"do": "answer", "status": 401, "for_seconds": 8}]})
    stage.start_ready(3)
    stage.enqueue(customers(1500))
    stage.drain(seconds=90)
    assert stage.sandbox.stats()["requests"]["401"] <= 5
    assert stage.findings().all == ()
