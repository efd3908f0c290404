"""`bunce-attributes demo` as a user runs it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner

from bunce_attributes.cli.demo import demo
from bunce_attributes.demo.example import PLAN
from bunce_attributes.sandbox.client import SandboxClient, Value

COMMAND = [str(Path(sys.executable).with_name("bunce-attributes")), "demo"]
SECONDS = 120.0


@dataclass(frozen=True)
class Place:
    """Where a demo runs: its temporary files and its working directory are our own."""

    temporary: Path
    working: Path

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "TMPDIR": str(self.temporary)}

    def left(self) -> list[str]:
        return sorted(path.name for path in self.temporary.iterdir())

    def processes(self) -> list[str]:
        """Command lines of processes that belong to the place."""
        found = []
        for process in psutil.process_iter():
            try:
                ours = process.environ().get("TMPDIR") == str(self.temporary)
                # Redis overwrites its environment with its title.
                if ours or process.cwd().startswith(str(self.temporary)):
                    found.append(" ".join(process.cmdline()))
            except psutil.Error:
                continue
        return found


@pytest.fixture
def place(tmp_path: Path) -> Place:
    for name in ("temporary", "working"):
        (tmp_path / name).mkdir()
    return Place(tmp_path / "temporary", tmp_path / "working")


def run(place: Place, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        cwd=place.working,
        env=place.environment | environment,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def small_file(folder: Path) -> Path:
    file = folder / "small.csv"
    file.write_text(
        "attribute,customer_email,value,occurred_at\n"
        f"{PLAN.id},ada@example.com,pro,\n"
        f"{PLAN.id},Ada@Example.com,free,2024-01-01T00:00:00Z\n"
        f"{PLAN.id},,pro,\n"
    )
    return file


def test_the_example_is_delivered_and_the_sandbox_holds_what_the_file_says(place: Place) -> None:
    """Also where settings of other services lie around, in the environment and in the working directory."""
    (place.working / ".env").write_text("BUNCE_MAX_ATTEMPTS=none\nREDIS_URL=redis://127.0.0.1:1/0\n")
    foreign = {
        "BUNCE_API_URL": "http://127.0.0.1:1",
        "BUNCE_API_KEY": "sk_live_other",
        "BUNCE_NAMESPACE": "other",
        "BUNCE_RETRY_BASE_SECONDS": "3600",
        "REDIS_URL": "redis://127.0.0.1:1/0",
        "CELERY_BROKER_URL": "redis://127.0.0.1:1/0",
        "HTTP_PROXY": "http://127.0.0.1:1",
    }
    done = run(place, **foreign)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all 3,040 rows compared, no difference" in done.stdout
    assert re.search(r"not enqueued +23 ", done.stdout)
    assert "10 × Provided value is not a valid format for timestamp" in done.stdout
    assert "5 × Provided value is not a valid format for numeric" in done.stdout
    assert "\x1b" not in done.stdout
    assert place.processes() == []
    [logs] = place.left()
    assert logs in done.stdout
    assert (
        '"event": "call"'
        in (place.temporary / logs / "worker-1.log").read_text() + (place.temporary / logs / "worker-2.log").read_text()
    )


def test_the_exit_code_is_1_when_the_sandbox_holds_something_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole demo with one value that changed behind its back."""
    read = SandboxClient.values

    def changed(self: SandboxClient) -> list[Value]:
        return [{**value, "value": "free"} for value in read(self)]

    monkeypatch.setattr(SandboxClient, "values", changed)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    done = CliRunner().invoke(demo, [str(small_file(tmp_path))])
    assert done.exit_code == 1, done.output
    assert "1 differences between the file and what happened" in done.output
    assert f"attribute {PLAN.id} of ada@example.com should hold 'pro', but holds 'free'" in done.output


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_demo_leaves_nothing_behind(place: Place, how: signal.Signals) -> None:
    process = subprocess.Popen(
        [*COMMAND], cwd=place.working, env=place.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        if "enqueued" in line:
            break
    process.send_signal(how)
    _, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == 1
    assert errors == "Stopped; nothing is left running.\n"
    assert place.left() == []
    assert place.processes() == []


def test_a_killed_demo_leaves_no_process(place: Place) -> None:
    process = subprocess.Popen(
        [*COMMAND], cwd=place.working, env=place.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        if "enqueued" in line:
            break
    assert len(place.processes()) >= 5, "demo, Redis, sandbox and two workers"
    process.kill()
    process.communicate(timeout=SECONDS)
    deadline = time.monotonic() + 20
    while place.processes() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert place.processes() == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "cannot be opened: No such file or directory"),
        ("", "is empty"),
        ("customer_id,value\na,1\n", "there is no column id (or attribute)"),
        ("customer_id,City\na,Lagos\n", "(with: bunce-attributes enqueue; the demo reads one line a value)"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_error_before_anything_starts(
    place: Place, text: str | None, said: str
) -> None:
    file = place.working / "my.csv"
    if text is not None:
        file.write_text(text)
    done = run(place, str(file))
    assert done.returncode == 1
    assert said in done.stderr
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1


def test_standard_input_is_refused_because_it_can_be_read_only_once(place: Place) -> None:
    done = run(place, "-")
    assert done.returncode == 1
    assert "cannot be read twice" in done.stderr


def test_a_worker_that_ends_is_an_error_that_names_its_log(place: Place) -> None:
    process = subprocess.Popen(
        [*COMMAND], cwd=place.working, env=place.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        if "enqueued" in line:
            break
    [worker] = [child for child in psutil.Process(process.pid).children() if "worker-2@%h" in child.cmdline()]
    worker.kill()
    _, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == 1
    assert "worker-2 ended with exit code -9; its log: " in errors
    assert place.processes() == []
