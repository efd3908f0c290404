"""An API that hangs up after it saved, or saves what we gave up on, and a worker whose clock is wrong."""

from __future__ import annotations

from pathlib import Path

from tests.acceptance.conftest import MakeStage

SHIFT = """
import os, time
_by, _time = float(os.environ["SHIFT_CLOCK_SECONDS"]), time.time
time.time = lambda: _time() + _by
"""


def test_a_call_applied_after_we_gave_up_on_it_overwrites_nothing_newer(make_stage: MakeStage) -> None:
    """Within BUNCE_UNKNOWN_HOLD_SECONDS of the failure: no value of its keys is sent before."""
    stage = make_stage(
        settings={"BUNCE_REQUEST_TIMEOUT_SECONDS": "0.5", "BUNCE_UNKNOWN_HOLD_SECONDS": "3"},
        sandbox=("--latency", "0.02"),
    )
    stage.sandbox.put_faults(
        {
            "calls": [
                {"do": "hang", "seconds": 1, "save_after_seconds": 2.5, "share": 0.15},
                {"do": "hang_up", "save": True, "share": 0.1},
                {"do": "hang_up", "save_after_seconds": 2, "share": 0.1},
            ],
            "seed": 5,
        }
    )
    stage.start_ready(2)
    keys = [f"k{number}" for number in range(400)]
    for _ in range(12):
        stage.enqueue(keys, chunk_rows=50)
        stage.enqueue(keys[:100], stamp=False, chunk_rows=10)
    stage.drain(seconds=60)
    late = [call for call in stage.sandbox.calls(rows=False) if call["fault"]]
    assert len(late) >= 5
    assert stage.findings().all == ()


def test_the_clock_of_a_worker_does_not_matter(make_stage: MakeStage, tmp_path: Path) -> None:
    """Redis' clock rules: one worker minutes ahead and one minutes behind change neither order nor retries."""
    hook = tmp_path / "hook"
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(SHIFT)
    stage = make_stage(sandbox=("--latency", "0.05", "--refuse-share", "0.2"))
    for shift in ("420", "-420"):
        stage.start(PYTHONPATH=str(hook), SHIFT_CLOCK_SECONDS=shift)
    for worker in stage.workers:
        worker.ready()
    keys = [f"k{number}" for number in range(200)]
    for turn in range(10):
        stage.enqueue(keys, stamp=turn % 2 == 0, chunk_rows=50)
    took = stage.drain(seconds=30)
    assert took < 20
    assert stage.sandbox.stats()["rows_refused"] > 0
    assert stage.findings().all == ()
