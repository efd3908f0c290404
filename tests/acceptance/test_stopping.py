"""SIGTERM: what is in flight is settled, everything else stays in Redis, and the worker is gone in time."""

from __future__ import annotations

import pytest
from tests.acceptance.conftest import MakeStage
from tests.acceptance.harness.checker import calls_by_customer
from tests.acceptance.harness.deadline import until


@pytest.mark.parametrize("pool", ["threads", "prefork"])
def test_a_stopped_worker_settles_its_calls_and_leaves_the_rest(make_stage: MakeStage, pool: str) -> None:
    """Even while the API hangs: the end comes within one request timeout and a few seconds."""
    stage = make_stage(settings={"BUNCE_REQUEST_TIMEOUT_SECONDS": "3"}, sandbox=("--latency", "0.5"))
    worker = stage.start(pool=pool, concurrency=4).ready()
    stage.enqueue([f"c{number}" for number in range(5000)])
    until("calls are in flight", lambda: stage.status()["calls_running"] >= 3, seconds=20, every=0.01)
    worker.terminate()
    assert worker.ended(seconds=3 + 7) == 0
    assert not stage.client.hlen(f"{stage.outbox.namespace}:workers"), "a stopped worker is not looked for"
    status = stage.status()
    assert status["leased"] == 0, "a call was left to its lease"
    assert status["waiting"] + status["queued_messages"] > 0, "it should have been stopped in the middle"
    stage.sandbox.put_faults({})
    stage.start()
    stage.drain(seconds=30)
    assert set(calls_by_customer(stage.sandbox.calls()).values()) == {1}, "a settled call was made again"
    assert stage.findings().all == ()
