"""A worker's memory does not grow with what waits: the rows are Redis', a worker holds a slice and a call."""

from __future__ import annotations

import psutil
import pytest
from tests.acceptance.conftest import MakeStage
from tests.acceptance.harness.deadline import until

from bunce_attributes.intake import MOST_BYTES


@pytest.mark.parametrize("rows", [150_000, pytest.param(1_000_000, marks=pytest.mark.soak)])
def test_the_memory_of_a_worker_stays_flat_however_many_rows_wait(make_stage: MakeStage, rows: int) -> None:
    stage = make_stage(appendfsync="no")
    stage.outbox.pause()
    worker = stage.start().ready()
    process = psutil.Process(worker.pid)
    warm = 20_000

    def wait_for(count: int) -> None:
        until(
            f"{count} rows wait",
            lambda: stage.outbox.waiting() == count and stage.status()["queued_messages"] == 0,
            seconds=240,
            every=0.1,
        )

    def enqueue(first: int, last: int) -> None:
        for start in range(first, last, 10_000):
            stage.updates.enqueue_many(
                {"id": "9f171295-6935-400c-af6b-fd628a46bc71", "customer_id": f"c{n}", "value": "1"}
                for n in range(start, min(start + 10_000, last))
            )

    enqueue(0, warm)
    wait_for(warm)
    before = process.memory_info().rss
    enqueue(warm, rows)
    wait_for(rows)
    grown = process.memory_info().rss - before
    # A claim of messages, decoded: a few times its bytes.
    assert grown < 8 * MOST_BYTES, f"{grown / 1e6:.0f} MB more with {rows - warm:,} more rows"
