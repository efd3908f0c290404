"""An API that hangs up after it saved, or saves what we gave up on, and a worker whose clock is wrong."""

from __future__ import annotations

from pathlib import Path

from tests.acceptance.conftest import MakeStage
from tests.acceptance.harness.deadline import until

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
    """Redis' clock rules: what a worker minutes ahead took in and got refused, one minutes behind delivers at once."""
    hook = tmp_path / "hook"
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(SHIFT)
    stage = make_stage(settings={"BUNCE_RETRY_BASE_SECONDS": "3", "BUNCE_RETRY_MAX_SECONDS": "3"})
    stage.sandbox.put_faults({"refuse_share": 1, "refuse_times": 1})
    keys = [f"k{number}" for number in range(300)]
    stage.enqueue(keys)
    ahead = stage.start(PYTHONPATH=str(hook), SHIFT_CLOCK_SECONDS="420")
    until("some were refused", lambda: stage.sandbox.stats()["rows_refused"] >= 100, seconds=30)
    stage.enqueue(keys[:100], stamp=False)
    ahead.kill()
    stage.enqueue([f"k{number}" for number in range(200, 400)])
    stage.start(PYTHONPATH=str(hook), SHIFT_CLOCK_SECONDS="-420")
    # The lease of a call that was cut off, and the refused ones' three seconds.
    stage.drain(seconds=25)
    assert stage.findings().all == ()
