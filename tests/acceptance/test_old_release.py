"""A worker that meets the data of a later release: it harms nothing, says so, and waits to be replaced."""

from __future__ import annotations

import time

from tests.acceptance.harness.deadline import until
from tests.acceptance.harness.stage import Stage

from bunce_attributes.worker.heartbeat import READS_LAYOUT


def test_a_worker_of_an_old_release_waits_and_says_so(stage: Stage) -> None:
    versions = f"{stage.outbox.namespace}:versions"
    worker = stage.start_ready()[0]
    stage.enqueue(["before"])
    stage.drain(seconds=20)
    stage.client.hset(versions, "layout", READS_LAYOUT + 1)
    stage.enqueue(["meanwhile"])
    until("the worker says so", lambda: "upgrade this one" in worker.text(), seconds=10)
    assert "out of reach" not in worker.text()
    time.sleep(2)
    assert worker.alive
    assert worker.text().count("upgrade this one") < 5, "once is enough"
    assert stage.client.llen(stage.outbox.namespace) == 1, "it should have left the queue alone"
    assert stage.client.hget(versions, "layout") == str(READS_LAYOUT + 1).encode()

    # In place of the release that could read it.
    stage.client.hdel(versions, "layout")
    stage.drain(seconds=20)
    assert stage.findings().all == ()
