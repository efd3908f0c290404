"""All faults at once, for ten minutes (SOAK_SECONDS), from a seed (SOAK_SEED); a report at the end."""

from __future__ import annotations

import os
import random

import pytest
from tests.acceptance.conftest import MakeStage
from tests.acceptance.harness.chaos import Chaos, report

SETTINGS = {
    "BUNCE_REQUEST_TIMEOUT_SECONDS": "2",
    "BUNCE_UNKNOWN_HOLD_SECONDS": "5",
    "BUNCE_REQUESTS_PER_MINUTE": "475",
    "BUNCE_BATCH_MAX_WAIT_SECONDS": "0.2",
    "BUNCE_RETRY_BASE_SECONDS": "0.5",
    "BUNCE_RETRY_MAX_SECONDS": "2",
    "BUNCE_MAX_ATTEMPTS": "3",
    "BUNCE_SPLIT_CALLS_SHARE": "1",
    "BUNCE_LOG_LEVEL": "WARNING",
}


def run_chaos(
    make_stage: MakeStage, *, seconds: float, longest_pause: float, seed: int, workers: int, drain: float
) -> str:
    # The vendor's own limit and its penalty: one overrun would show as a 429 that no fault made.
    vendor = ("--requests-per-minute", "500", "--penalty", "60", "--latency", "0.1")
    stage = make_stage(settings=SETTINGS, sandbox=vendor)
    chaos = Chaos(stage, seed, workers)
    try:
        chaos.run(seconds, longest_pause=longest_pause)
        drained = stage.drain(seconds=drain)
        stage.enqueue(["the last partial call"])
        stage.drain(seconds=60)
        told = report(stage, chaos, seed, seconds, drained)
        assert stage.findings().all == (), told
        return told
    finally:
        chaos.close()


def test_a_short_storm_of_all_faults_loses_nothing(make_stage: MakeStage) -> None:
    run_chaos(make_stage, seconds=12, longest_pause=1.5, seed=4, workers=2, drain=90)


@pytest.mark.soak
def test_soak(make_stage: MakeStage, capsys: pytest.CaptureFixture[str]) -> None:
    seconds = float(os.environ.get("SOAK_SECONDS", "600"))
    seed = int(os.environ.get("SOAK_SEED", str(random.SystemRandom().randrange(10**6))))
    told = run_chaos(make_stage, seconds=seconds, longest_pause=4, seed=seed, workers=4, drain=240)
    with capsys.disabled():
        print(f"\n{told}")
