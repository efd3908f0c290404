"""The demo from its start to its verdict, readable top to bottom."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from bunce_attributes.demo.comparison import DeadLetter, Outcome, Totals, differences
from bunce_attributes.demo.display import Display, Figures, Group, Summary, display, show_summary
from bunce_attributes.demo.example import ATTRIBUTES
from bunce_attributes.demo.expectation import Expectation, expect
from bunce_attributes.demo.machinery import DemoSettings, Workers
from bunce_attributes.demo.readback import dead_letters, held_values
from bunce_attributes.demo.stopping import stop
from bunce_attributes.embedded_redis import EmbeddedRedis
from bunce_attributes.file_import import FileImport, Interrupts
from bunce_attributes.file_import import Progress as HowFar
from bunce_attributes.outbox.outbox import Outbox
from bunce_attributes.producer import AttributeUpdates
from bunce_attributes.rows_file import Lines, UnusableFile, read_rows
from bunce_attributes.rows_file.lines import STANDARD_INPUT
from bunce_attributes.sandbox import SandboxProcess
from bunce_attributes.settings import Settings
from bunce_attributes.updates import Lane

WORKERS = 2
LOOK_SECONDS = 0.1
STUCK_SECONDS = 60.0
"""Longer than any pause that the sandbox can cause here."""
_SHOWN_DIFFERENCES = 10

FAULTS = {
    "latency": [0.05, 0.3],
    # One row in twenty-five is refused, once: these come back and are saved.
    "refuse_share": 0.04,
    "refuse_times": 1,
    # Two calls in a row fail as a whole: their rows lose no attempt.
    "calls": [{"do": "answer", "status": 503, "skip": 12, "times": 2}],
}


class DemoFailed(Exception):  # noqa: N818 - reads as what it is where it is caught
    """The demo could not be carried through; ``str()`` says why and where to look."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """How the demo ended; without differences the file was delivered as it says."""

    differences: list[str]
    rows: int
    logs: Path


def run(file: str, console: Console) -> Verdict:
    """Deliver a file, and compare.

    Raises:
        UnusableFile: the file is none; nothing was started.
        EmbeddedRedisError, SandboxError: a part could not be started.
        DemoFailed: it went wrong on the way.
        KeyboardInterrupt: somebody stopped it; everything is put away by then.
    """
    if Path(file).is_dir():
        raise UnusableFile(f"{file} is a folder: name a file in it")
    if file == STANDARD_INPUT or (Path(file).exists() and not Path(file).is_file()):
        raise UnusableFile(f"{file} cannot be read twice, as the demo must in order to compare: save it as a file")
    types = {attribute.id: attribute.data_type for attribute in ATTRIBUTES}
    with Lines(file) as lines:
        expected = expect(read_rows(lines, {}), types, time.time())
    with ExitStack() as stack:
        logs = stack.enter_context(_log_folder())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bunce-demo-run-")))
        server = stack.enter_context(EmbeddedRedis())
        sandbox = stack.enter_context(_sandbox(types))
        settings = demo_settings(server.url, sandbox.url, sandbox.key)
        version = ".".join(str(part) for part in server.binary.version)
        console.print(f"Redis     a private {server.binary.path.name} {version}, append-only file on", markup=False)
        console.print(f"API       the sandbox at {sandbox.url}, 500 calls a minute")
        workers = stack.enter_context(Workers(settings, count=WORKERS, logs=logs, folder=folder))
        console.print(f"Workers   {WORKERS} processes")
        client = stack.enter_context(server.client())
        delivery = _Delivery(file, expected, Outbox(client, settings), workers, server.url)
        with display(console) as shown:
            delivery.run(shown)
        letters = dead_letters(client, settings.namespace)
        delivery.summarise(console, letters)
        outcome = Outcome(
            delivery.refused_lines, held_values(sandbox), letters, delivery.totals(), settings.max_attempts
        )
    return Verdict(differences(expected, outcome), expected.rows, logs)


def demo_settings(redis_url: str, api_url: str, key: str) -> Settings:
    """As in production, but for waits that suit somebody who watches."""
    return DemoSettings(
        redis_url=redis_url,
        api_url=api_url,
        api_key=key,
        batch_max_wait_seconds=0.5,
        retry_base_seconds=0.5,
        retry_max_seconds=4.0,
        unknown_hold_seconds=2.0,
        log_format="json",
    )


@contextmanager
def _log_folder() -> Iterator[Path]:
    """Stays, unless the demo is stopped."""
    logs = Path(tempfile.mkdtemp(prefix="bunce-demo-"))
    try:
        yield logs
    except KeyboardInterrupt:
        shutil.rmtree(logs, ignore_errors=True)
        raise


def _sandbox(types: dict[str, str]) -> SandboxProcess:
    declared = [option for each, data_type in types.items() for option in ("--attribute", f"{each}:{data_type}")]
    return SandboxProcess("--no-log", "--faults", json.dumps(FAULTS), *declared)


class _Delivery:
    """The file on its way through queue, outbox and calls."""

    def __init__(self, file: str, expected: Expectation, outbox: Outbox, workers: Workers, url: str) -> None:
        self._file = file
        self._expected = expected
        self._outbox = outbox
        self._workers = workers
        self._url = url
        self._enqueued = 0
        self._seconds = 0.0
        self._status: dict[str, Any] = {}
        self.refused_lines: list[int] = []

    def run(self, shown: Display) -> None:
        """Enqueue everything, then wait until nothing waits."""
        started = time.monotonic()
        self._look()
        self._enqueue(shown)
        self._wait(shown)
        self._seconds = time.monotonic() - started

    def totals(self) -> Totals:
        """What the service counted."""
        counts = self._counts
        return Totals(counts["received"], counts["saved"], counts["superseded"], self._dead, self._status["waiting"])

    def summarise(self, console: Console, letters: list[DeadLetter]) -> None:
        """Show the table."""
        counts = self._counts
        reasons = Counter(letter.message for letter in letters)
        show_summary(
            console,
            Summary(
                in_file=self._expected.rows,
                refused_at_the_door=len(self.refused_lines),
                figures=self._figures,
                groups=[Group(count, message) for message, count in reasons.most_common()],
                calls=counts["calls"],
                failed_calls=counts["calls"] - counts["calls:200"],
                call_rows=counts["call_rows"],
                retries=counts["retried"],
                seconds=self._seconds,
            ),
        )

    def _enqueue(self, shown: Display) -> None:
        def refused(line: int, reason: str) -> None:
            self.refused_lines.append(line)
            shown.refused_line(line, reason)

        due = _Every(LOOK_SECONDS)

        def progress(done: HowFar) -> None:
            if done.rows != self._enqueued or due():
                self._enqueued = done.rows
                self._look()
                shown.figures(self._figures, self._expected.enqueued)

        with Lines(self._file) as lines, AttributeUpdates(self._url) as updates, Interrupts() as interrupts:
            end = FileImport(
                read_rows(lines, {}),
                updates.batch(lane=Lane.BULK),
                rejects=None,
                skip_lines=0,
                on_refused=refused,
                on_progress=progress,
            ).run(interrupts)
        if end.interrupted:
            stop()
        if end.error is not None:
            raise DemoFailed(f"the file was not enqueued to its end: {end.error}")
        self._enqueued = end.progress.rows
        shown.refused_lines_end()

    def _wait(self, shown: Display) -> None:
        unchanged_since, before = time.monotonic(), Figures()
        while True:
            self._look()
            figures = self._figures
            shown.figures(figures, self._expected.enqueued)
            if figures.waiting == 0:
                return
            now = time.monotonic()
            if figures != before:
                unchanged_since, before = now, figures
            elif now - unchanged_since > STUCK_SECONDS:
                raise DemoFailed(
                    f"{figures.waiting:,} rows wait, and nothing has happened for {STUCK_SECONDS:.0f} s; "
                    f"the workers' logs: {self._workers.processes[0].log.parent}"
                )
            time.sleep(LOOK_SECONDS)

    def _look(self) -> None:
        worker = self._workers.dead()
        if worker is not None:
            raise DemoFailed(f"{worker.name} ended with exit code {worker.exit_code}; its log: {worker.log}")
        self._status = self._outbox.status()

    @property
    def _counts(self) -> Counter[str]:
        return Counter(self._status["counts"])

    @property
    def _dead(self) -> int:
        return sum(number for name, number in self._counts.items() if name.startswith("dead:"))

    @property
    def _figures(self) -> Figures:
        counts = self._counts
        ended = counts["saved"] + counts["superseded"] + self._dead
        return Figures(
            enqueued=self._enqueued,
            saved=counts["saved"],
            superseded=counts["superseded"],
            # What is enqueued and not yet received waits too.
            waiting=max(self._enqueued - ended, self._status["waiting"]),
            refused=counts["retried"] + counts["dead:attempts"],
            dead=self._dead,
        )


class _Every:
    """True once in so many seconds."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._next = clock()

    def __call__(self) -> bool:
        now = self._clock()
        if now < self._next:
            return False
        self._next = now + self._seconds
        return True


def report(verdict: Verdict, console: Console) -> None:
    """Say how the comparison ended."""
    console.print()
    if not verdict.differences:
        console.print(
            "[bold green]The sandbox holds what the file says[/]: "
            + ("the one row" if verdict.rows == 1 else f"all {verdict.rows:,} rows")
            + " compared, no difference."
        )
        return
    console.print(f"[bold red]{len(verdict.differences):,} differences[/] between the file and what happened:")
    for difference in verdict.differences[:_SHOWN_DIFFERENCES]:
        console.print(f"  {difference}", markup=False)
    if len(verdict.differences) > _SHOWN_DIFFERENCES:
        console.print(f"  … and {len(verdict.differences) - _SHOWN_DIFFERENCES:,} more")
