"""A stuck worker is told from a busy one, and from one whose Redis is away."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bunce_attributes.worker.health import VARIABLE, Beats, boot_clock, check, fault

WELL = {"limit": 55.0, "dispatcher": 1000.0, "loop": 1000.0, "redis_away": 0.0}


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_worker_whose_threads_turn_is_well() -> None:
    assert fault(WELL, now=1050.0) == ""


def test_a_dispatcher_that_stands_still_is_a_fault() -> None:
    assert "dispatcher" in fault({**WELL, "loop": 1060.0}, now=1060.0)


def test_a_loop_that_stands_still_is_a_fault() -> None:
    """Celery would consume no wake-up any more, though the process lives."""
    assert "Celery's loop" in fault({**WELL, "dispatcher": 1060.0}, now=1060.0)


def test_a_redis_that_is_away_is_no_fault_of_the_worker() -> None:
    """Celery's loop rests then; a restart would mend nothing, and interrupt calls in flight."""
    assert fault({**WELL, "dispatcher": 4600.0, "redis_away": 4600.0}, now=4600.0) == ""


def test_after_redis_is_back_the_loop_has_its_time_to_follow() -> None:
    back = {**WELL, "dispatcher": 4660.0, "redis_away": 4600.0}
    assert fault(back, now=4650.0) == ""
    assert "though Redis answers" in fault(back, now=4660.0)


def test_beats_are_read_as_they_were_written(tmp_path: Path) -> None:
    clock, file = Clock(), tmp_path / "health"
    beats = Beats(file, 55.0, clock)
    clock.now = 1010.0
    beats.loop()
    beats.dispatcher(redis_away=True)
    assert json.loads(file.read_text()) == {"limit": 55.0, "dispatcher": 1010.0, "loop": 1010.0, "redis_away": 1010.0}
    assert list(tmp_path.iterdir()) == [file], "the draft is gone"


def test_a_worker_that_ticks_fast_writes_seldom(tmp_path: Path) -> None:
    """The dispatcher turns forty times a second; the file system need not know."""
    clock, file = Clock(), tmp_path / "health"
    beats = Beats(file, 55.0, clock)
    beats.dispatcher(redis_away=False)
    written = file.stat().st_ino
    clock.now += 0.025
    beats.dispatcher(redis_away=False)
    assert file.stat().st_ino == written
    clock.now += 2.0
    beats.dispatcher(redis_away=False)
    assert json.loads(file.read_text())["dispatcher"] == clock.now


def test_a_file_that_cannot_be_written_ends_no_dispatcher(tmp_path: Path) -> None:
    Beats(tmp_path / "no" / "such" / "folder", 55.0).dispatcher(redis_away=False)


def test_a_worker_that_has_not_written_yet_is_not_well(tmp_path: Path) -> None:
    assert "No worker has written" in check(str(tmp_path / "health"))


def test_a_file_that_is_none_of_ours_is_told_of(tmp_path: Path) -> None:
    (tmp_path / "health").write_text("rubbish")
    assert "Cannot read" in check(str(tmp_path / "health"))


def run_check(environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "bunce_attributes.worker.health"],
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


def test_the_check_is_a_command_with_an_exit_code(tmp_path: Path) -> None:
    file = tmp_path / "health"
    Beats(file, 55.0).dispatcher(redis_away=False)
    well = run_check({VARIABLE: str(file)})
    assert (well.returncode, well.stdout) == (0, "ok\n")
    file.write_text(json.dumps({**WELL, "dispatcher": boot_clock() - 100, "loop": boot_clock()}))
    stuck = run_check({VARIABLE: str(file)})
    assert stuck.returncode == 1
    assert "dispatcher has not turned" in stuck.stdout


def test_the_check_without_a_file_says_what_to_set() -> None:
    answer = run_check({})
    assert answer.returncode == 1
    assert VARIABLE in answer.stdout


@pytest.mark.parametrize("heavy", ["celery", "kombu", "redis", "pydantic", "httpx"])
def test_the_check_is_cheap(heavy: str, tmp_path: Path) -> None:
    """An orchestrator runs it every few seconds, for every worker."""
    imported = run_check({VARIABLE: str(tmp_path / "health")}).stderr
    assert f" {heavy}\n" not in imported
    assert "json" in imported


def test_the_clock_is_the_same_in_every_process() -> None:
    mine = boot_clock()
    command = [sys.executable, "-c", "from bunce_attributes.worker.health import boot_clock; print(boot_clock())"]
    other = float(subprocess.check_output(command, timeout=30))
    assert mine <= other <= mine + 30
