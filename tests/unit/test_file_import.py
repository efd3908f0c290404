"""The account of an import is exact, however it ends."""

from __future__ import annotations

import csv
import os
import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bunce_attributes.file_import import FileImport, ImportEnd, Interrupts, JudgeOnly, Progress
from bunce_attributes.row_batches import EnqueueCounts, EnqueueFailed, parse_producer_row
from bunce_attributes.rows_file import Lines, UnusableFile, read_rows
from bunce_attributes.rows_file.rejects import RejectsFile

ATTRIBUTE = "9f171295-6935-400c-af6b-fd628a46bc71"
GOOD = f"{ATTRIBUTE},1,x\n"
BAD = "no-uuid,1,x\n"


@dataclass
class FakeSink:
    """Full after `size` rows; the flush numbered `fails_at` fails."""

    size: int = 2
    fails_at: int = 0
    kept: int = 0
    flushes: int = 0
    counts: EnqueueCounts = field(default_factory=EnqueueCounts)

    @property
    def full(self) -> bool:
        return self.kept >= self.size

    def add(self, row: Mapping[str, object]) -> None:
        parse_producer_row(row)
        self.kept += 1

    def flush(self) -> None:
        self.flushes += 1
        kept, self.kept = self.kept, 0
        if self.flushes == self.fails_at:
            raise EnqueueFailed("Redis is away", self.counts, kept)
        self.counts = EnqueueCounts(self.counts.rows + kept, self.counts.messages + bool(kept))


class Run:
    def __init__(self, folder: Path) -> None:
        self.file = folder / "people.csv"
        self.rejects = folder / "rejects.csv"
        self.refused: list[int] = []

    def __call__(self, content: str, sink: FakeSink | JudgeOnly, *, skip: int = 0, keep: bool = True) -> ImportEnd:
        self.file.write_text("id,customer_id,value\n" + content, encoding="utf-8")
        with Lines(str(self.file)) as lines:
            reader = read_rows(lines, {})
            rejects = (
                RejectsFile(str(self.rejects), source=str(self.file), head=reader.rejects_head(), go_on=skip > 0)
                if keep
                else None
            )
            try:
                run = FileImport(
                    reader,
                    sink,
                    rejects=rejects,
                    skip_lines=skip,
                    on_refused=lambda line, _reason: self.refused.append(line),
                    on_progress=lambda _progress: None,
                )
                with Interrupts() as interrupts:
                    return run.run(interrupts)
            finally:
                if rejects is not None:
                    rejects.__exit__(None, None, None)

    def rejected_lines(self) -> list[str]:
        with self.rejects.open(encoding="utf-8", newline="") as file:
            return [cells["line"] for cells in csv.DictReader(file)]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path)


def test_a_complete_import(run: Run) -> None:
    end = run(GOOD * 3 + BAD + GOOD, FakeSink())
    assert end == ImportEnd(Progress(rows=4, messages=2, refused=1, done_line=6))
    assert run.refused == [5]
    assert run.rejected_lines() == ["5"]


def test_judging_sends_nothing_and_counts_the_same(run: Run) -> None:
    end = run(GOOD * 3 + BAD + GOOD, JudgeOnly())
    assert end == ImportEnd(Progress(rows=4, refused=1, done_line=6))


def test_a_failure_leaves_the_account_of_the_last_step(run: Run) -> None:
    end = run(GOOD * 2 + BAD + GOOD * 5, FakeSink(size=2, fails_at=2))
    assert end == ImportEnd(Progress(rows=2, messages=1, done_line=3), error="Redis is away", unknown_rows=2)
    # The refused row stands after the last step, so it is refused again when the import goes on.
    assert run.rejected_lines() == []


def test_going_on_does_what_was_left_and_doubles_nothing(run: Run) -> None:
    content = GOOD * 2 + BAD + GOOD * 5 + BAD
    first = run(content, FakeSink(size=2, fails_at=2))
    sink = FakeSink()
    second = run(content, sink, skip=first.progress.done_line)
    assert first.progress.rows + second.progress.rows == 7
    assert second.progress.done_line == 10
    assert run.rejected_lines() == ["4", "10"]


def test_a_file_of_bad_rows_alone_is_written_in_steps(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bunce_attributes.file_import.REFUSALS_A_STEP", 2)
    sink = FakeSink()
    end = run(BAD * 5, sink)
    assert end.progress.refused == 5
    assert sink.flushes == 3
    assert run.rejected_lines() == ["2", "3", "4", "5", "6"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_stops_after_a_whole_record(run: Run, number: signal.Signals) -> None:
    class InterruptingSink(FakeSink):
        def add(self, row: Mapping[str, object]) -> None:
            super().add(row)
            if self.counts.rows + self.kept == 3:
                os.kill(os.getpid(), number)

    end = run(GOOD * 10, InterruptingSink(size=2))
    assert end.interrupted
    assert end.progress == Progress(rows=3, messages=2, done_line=4)


def test_an_interruption_while_a_pipe_is_silent_keeps_what_was_read() -> None:
    def records() -> Iterator[object]:
        os.kill(os.getpid(), signal.SIGINT)
        yield "never reached"

    with Interrupts() as interrupts:
        assert interrupts.next_record(records()) is None  # type: ignore[arg-type]  # what it yields is never looked at
        assert interrupts.requested


def test_the_handlers_of_before_are_back_afterwards() -> None:
    before = signal.getsignal(signal.SIGINT)
    with Interrupts():
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before


def test_a_file_that_breaks_off_is_enqueued_as_far_as_it_goes(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    class BreakingReader:
        notes = ()

        def __iter__(self) -> Iterator[object]:
            raise UnusableFile("the disk is gone")

    sink = FakeSink(kept=1)
    end = FileImport(
        BreakingReader(),  # type: ignore[arg-type]  # only iterated
        sink,
        rejects=None,
        skip_lines=7,
        on_refused=lambda _line, _reason: None,
        on_progress=lambda _progress: None,
    ).run(Interrupts())
    assert end == ImportEnd(Progress(rows=1, messages=1, done_line=7), error="the disk is gone")


def test_a_file_of_refused_rows_is_for_its_owner_alone(run: Run) -> None:
    run(BAD, FakeSink())
    assert run.rejects.stat().st_mode & 0o777 == 0o600


def test_a_file_of_refused_rows_is_begun_anew_unless_an_import_goes_on(run: Run) -> None:
    run(BAD, FakeSink())
    run(BAD, FakeSink())
    assert run.rejected_lines() == ["2"]
    run(BAD * 2, FakeSink(), skip=2)
    assert run.rejected_lines() == ["2", "3"]


def test_refused_rows_are_never_written_over_the_file_itself(tmp_path: Path) -> None:
    path = tmp_path / "people.csv"
    path.write_text("x", encoding="utf-8")
    with pytest.raises(UnusableFile, match="name another"):
        RejectsFile(str(path), source=str(tmp_path / "." / "people.csv"), head="", go_on=False)
    assert path.read_text(encoding="utf-8") == "x"


def test_a_place_that_cannot_be_written_is_named_before_anything_is_sent(tmp_path: Path) -> None:
    with pytest.raises(UnusableFile, match=r"--rejects .*nowhere/x cannot be written: No such file"):
        RejectsFile(str(tmp_path / "nowhere" / "x"), source="-", head="", go_on=False)


def test_a_full_disk_is_an_error_with_an_exact_account(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    with pytest.raises(UnusableFile, match="No space left"):
        RejectsFile("/dev/full", source="-", head="id\n", go_on=False)
