"""Rows from a plain Celery program to the API, row by row retried."""

from __future__ import annotations

import subprocess
import sys

from tests.acceptance.conftest import MakeStage
from tests.acceptance.harness.checker import calls_by_customer, refusals
from tests.acceptance.harness.stage import Stage
from tests.acceptance.harness.workload import ATTRIBUTE

PROGRAM = """
import sys
from celery import Celery
row = {"id": sys.argv[2], "customer_id": "ada", "value": "1"}
app = Celery(broker=sys.argv[1])
app.send_task("bunce_attributes.update", args=[[row, {**row, "customer_id": "bob"}]], queue="bunce-attributes")
app.send_task("bunce_attributes.update", args=[{**row, "customer_id": "eve"}], queue="bunce-attributes", priority=9)
assert not [name for name in sys.modules if name.startswith("bunce")]
"""


def test_a_plain_celery_program_needs_none_of_our_code(stage: Stage) -> None:
    subprocess.run([sys.executable, "-c", PROGRAM, stage.url, ATTRIBUTE], check=True, timeout=60)
    stage.work.took(stage.work.rows(["ada", "bob", "eve"]))
    stage.start()
    stage.drain(seconds=30)
    assert stage.findings().all == ()
    assert stage.outbox.status()["counts"]["saved"] == 3


def test_a_rejected_row_does_not_cost_its_neighbours_an_attempt(make_stage: MakeStage) -> None:
    """150 rows, the first of them always refused and another one twice: exact attempts, whatever the call's shape."""
    stage = make_stage()
    stage.sandbox.put_faults({"refuse": [{"customer_id": ["c0"]}, {"customer_id": ["c7"], "times": 2}]})
    customers = [f"c{number}" for number in range(150)]
    stage.enqueue(customers)
    stage.start()
    stage.drain(seconds=40)

    calls = stage.sandbox.calls()
    assert calls[0]["rows"][0]["identity"] == "c0", "index 0 must be among the refused"
    assert refusals(calls) == {"c0": 5, "c7": 2}
    assert calls_by_customer(calls) == {"c0": 5, "c7": 3} | {name: 1 for name in customers if name not in ("c0", "c7")}
    assert stage.dead() == {"c0": 1}
    assert stage.outbox.status()["counts"]["saved"] == 149
    assert stage.findings().all == ()


def test_a_call_refused_for_one_unnamed_row_costs_its_neighbours_no_attempt(make_stage: MakeStage) -> None:
    """A 422 that names no row: the call is split until the row stands alone, and only there attempts count."""
    stage = make_stage(settings={"BUNCE_MAX_ATTEMPTS": "3", "BUNCE_SPLIT_CALLS_SHARE": "1"})
    stage.sandbox.put_faults({"calls": [{"do": "answer", "status": 422, "customer_id": ["c13"]}]})
    customers = [f"c{number}" for number in range(64)]
    stage.enqueue(customers)
    stage.start()
    stage.drain(seconds=40)

    refused = [call for call in stage.sandbox.calls() if call["status"] == 422]
    assert sum(call["row_count"] == 1 for call in refused) == 3
    assert stage.dead() == {"c13": 1}
    assert stage.outbox.status()["counts"]["saved"] == 63
    assert stage.findings().all == ()


def test_each_key_ends_on_its_newest_value_and_never_goes_back(make_stage: MakeStage) -> None:
    """6,000 values of 150 keys over two workers, one in ten refused once; half of them ordered by the queue alone."""
    stage = make_stage(sandbox=("--refuse-share", "0.1", "--latency", "0.02"))
    stage.start_ready(2)
    stamped = [f"s{number}" for number in range(75)]
    unstamped = [f"u{number}" for number in range(75)]
    for _ in range(40):
        stage.enqueue(stamped, chunk_rows=25)
        stage.enqueue(unstamped, stamp=False, chunk_rows=25)
    stage.drain(seconds=60)
    assert stage.outbox.status()["counts"]["received"] == 6000
    assert stage.sandbox.stats()["rows_refused"] > 0
    assert stage.findings().all == ()


def test_the_api_key_was_never_written_to_redis(make_stage: MakeStage) -> None:
    """Not even for a moment: the append-only file holds every command, and here the API quotes the key back."""
    key = "sk_test_3b1f0c9d8e7a"
    stage = make_stage(settings={"BUNCE_API_KEY": key, "BUNCE_MAX_ATTEMPTS": "1"}, sandbox=("--key", key))
    stage.sandbox.put_faults(
        {
            "refuse": [{"customer_id": ["c1"], "message": f"no value for {key}"}],
            "calls": [{"do": "answer", "status": 500, "message": f"{key} failed", "times": 1}],
        }
    )
    stage.enqueue(["c0", "c1", "c2"])
    stage.start()
    stage.drain(seconds=30)
    assert stage.dead() == {"c1": 1}
    written = b"".join(path.read_bytes() for path in stage.server.folder.rglob("*") if path.is_file())
    assert b'"customer_id":"c1"' in written, "the file should hold the commands"
    assert key.encode() not in written
