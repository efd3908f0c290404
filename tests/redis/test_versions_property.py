"""An older value never lands after a newer one: whatever is retried, redelivered, replayed or exported.

A random course of events over a few keys: values with and without ``occurred_at``, readers and workers that die or
come late, an API that applies a call after we gave up on it, dead letters that are replayed, purged, or exported and
enqueued again (``versions_machine.py``).
"""

from __future__ import annotations

import json
import os

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from redis import Redis
from tests.redis.versions_machine import Versions
from tests.redis.world import ATTRIBUTE, START_MS

from bunce_attributes import intake as intake_module
from bunce_attributes.celery_message import update_message
from bunce_attributes.decisions import decide
from bunce_attributes.embedded_redis import EmbeddedRedis
from bunce_attributes.intake import Intake
from bunce_attributes.outbox.outbox import ClaimedCall, Outbox
from bunce_attributes.outcomes import Processed
from bunce_attributes.retries import RetryPolicy
from bunce_attributes.settings import load_settings
from bunce_attributes.updates import Lane


class VersionsToTheEnd(Versions):
    def teardown(self) -> None:
        try:
            self.finish()
        finally:
            super().teardown()


def test_an_older_value_never_lands_after_a_newer_one(
    redis_server: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Messages of three rows span two slices."""
    monkeypatch.setattr(intake_module, "SLICE_ROWS", 2)
    monkeypatch.setattr(VersionsToTheEnd, "server", redis_server, raising=False)
    run_state_machine_as_test(
        VersionsToTheEnd,
        settings=settings(
            max_examples=int(os.environ.get("VERSIONS_EXAMPLES", "100")),
            stateful_step_count=60,
            deadline=None,
            # Shrinking such a course takes minutes; VERSIONS_EXAMPLES=1000 finds more, and a shorter one by chance.
            phases=(Phase.explicit, Phase.reuse, Phase.generate),
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_what_was_delivered_is_remembered_in_bounded_memory(redis_client: Redis, redis_url: str) -> None:
    """docs/guarantees.md has the figure: bytes for each key delivered within BUNCE_VERSION_MEMORY_SECONDS."""
    rows, most_bytes_a_key = 20_000, 120
    settings_ = load_settings(
        redis_url=redis_url,
        batch_max_rows=1_000,
        batch_max_wait_seconds=0.0,
        requests_per_minute=1_000_000,
        version_memory_seconds=3_600.0,
    )
    outbox = Outbox(redis_client, settings_, now_ms=START_MS)
    intake = Intake(outbox, row_limit_bytes=100_000)

    def deliver(first: int) -> None:
        for start in range(first, first + rows, 1_000):
            encoded = [
                json.dumps({"id": ATTRIBUTE, "customer_id": f"c{n}", "value": "v", "occurred_at": START_MS / 1000})
                for n in range(start, start + 1_000)
            ]
            redis_client.lpush(
                outbox.namespace,
                update_message(encoded, queue=outbox.namespace, lane=Lane.LIVE, enqueued_at=START_MS / 1000),
            )
        intake.run()
        for number in range(first, first + rows, 1_000):
            # Paced to the burst: a permit a minute is plenty.
            outbox.now_ms += 61_000
            claim = outbox.claim_call(f"call{number}", "no token")
            assert isinstance(claim, ClaimedCall)
            saved = decide(Processed(200, {}), claim.rows, claim.history, RetryPolicy(5, 1, 1), lambda: 0.5)
            outbox.settle(claim.id, saved, {})

    def remembered() -> list[bytes]:
        return sorted(redis_client.scan_iter(f"{outbox.namespace}:seen:*", count=1_000))

    deliver(0)
    used = sum(int(redis_client.memory_usage(key, samples=0) or 0) for key in remembered())
    print(f"{used / rows:.0f} bytes for each key remembered")
    assert 0 < used / rows < most_bytes_a_key
    # Whole hashes expire, each a quarter of the memory; none is without an end.
    ends = [int(redis_client.pttl(key)) for key in remembered()]
    assert all(0 < end <= 3_600_000 * 1.25 + 60_000 for end in ends), ends
