"""A file of updates on its way into the queue: row by row, with an exact account of how far it got.

Rows and refused rows leave in steps. After a step everything up to a line of the file is either queued or in the
file of refused rows, so an import that stops for any reason goes on after the line of its last step.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import FrameType, TracebackType
from typing import Protocol, Self

from bunce_attributes.row_batches import EnqueueCounts, EnqueueFailed, parse_producer_row
from bunce_attributes.rows_file.lines import UnusableFile
from bunce_attributes.rows_file.records import Record, Refusal, RowsReader
from bunce_attributes.rows_file.rejects import RejectsFile
from bunce_attributes.updates import InvalidUpdate

REFUSALS_A_STEP = 1_000
"""Refused lines held in memory, for a file that has no other."""


class Sink(Protocol):
    """Where rows go: :class:`bunce_attributes.row_batches.Batch`, or nowhere."""

    @property
    def full(self) -> bool: ...

    @property
    def counts(self) -> EnqueueCounts: ...

    def add(self, row: Mapping[str, object]) -> None: ...

    def flush(self) -> None: ...


class JudgeOnly:
    """Judges every row and sends none."""

    full = False

    def __init__(self) -> None:
        self._rows = 0

    @property
    def counts(self) -> EnqueueCounts:
        """The rows that would be sent."""
        return EnqueueCounts(rows=self._rows)

    def add(self, row: Mapping[str, object]) -> None:
        """Judge a row.

        Raises:
            InvalidUpdate: with every fault.
        """
        parse_producer_row(row)
        self._rows += 1

    def flush(self) -> None:
        """Nothing."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an import is."""

    rows: int = 0
    """Queued (or, if nothing is sent, found good)."""
    messages: int = 0
    refused: int = 0
    """Rows that are no update, and lines that cannot be read."""
    lines_without_value: int = 0
    done_line: int = 0
    """Everything up to this line is queued or refused."""


@dataclass(frozen=True, slots=True)
class ImportEnd:
    """How an import ended; with neither an error nor an interruption it is complete."""

    progress: Progress
    error: str | None = None
    interrupted: bool = False
    unknown_rows: int = 0


class Interrupts:
    """Ctrl-C and SIGTERM stop an import between two records, never within a step. For the main thread."""

    def __init__(self) -> None:
        self.requested = False
        self._reading = False
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._stop)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # what signal.signal() returned before

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self.requested = True
        if self._reading:
            # A pipe may be silent for hours.
            raise KeyboardInterrupt

    def next_record(self, records: Iterator[Record]) -> Record | None:
        """The next record, or None at the end of the file and when a stop was asked for."""
        try:
            self._reading = True
            if self.requested:
                return None
            return next(records, None)
        except KeyboardInterrupt:
            return None
        finally:
            self._reading = False


class FileImport:
    """One run over a file."""

    def __init__(
        self,
        reader: RowsReader,
        sink: Sink,
        *,
        rejects: RejectsFile | None,
        skip_lines: int,
        on_refused: Callable[[int, str], None],
        on_progress: Callable[[Progress], None],
    ) -> None:
        """Prepare a run.

        Args:
            reader: the file.
            sink: where its rows go.
            rejects: where refused rows go.
            skip_lines: records that end within the first so many lines are done already.
            on_refused: called with the line and the reason for each record with something refused.
            on_progress: called after every record; must be quick.
        """
        self._reader = reader
        self._sink = sink
        self._rejects = rejects
        self._skip_lines = skip_lines
        self._on_refused = on_refused
        self._on_progress = on_progress
        self._kept: list[str] = []
        self._refused = 0
        self._without_value = 0
        self._progress = Progress(done_line=skip_lines)

    def run(self, interrupts: Interrupts) -> ImportEnd:
        """Send the file; whatever goes wrong is in the result."""
        line = self._skip_lines
        try:
            records = iter(self._reader)
            while (record := interrupts.next_record(records)) is not None:
                if record.last_line <= self._skip_lines:
                    continue
                self._take(record)
                line = record.last_line
                if self._sink.full or len(self._kept) >= REFUSALS_A_STEP:
                    self._step(line)
                self._on_progress(self._progress)
            self._step(line)
        except EnqueueFailed as error:
            return ImportEnd(self._progress, error=error.reason, unknown_rows=error.unknown_rows)
        except UnusableFile as error:
            return self._file_broke(line, error)
        except KeyboardInterrupt:
            # It came in the moment between a record and its account.
            return ImportEnd(self._progress, interrupted=True)
        return ImportEnd(self._progress, interrupted=interrupts.requested)

    def _take(self, record: Record) -> None:
        refusals = []
        for index, row in enumerate(record.rows):
            try:
                self._sink.add(row)
            except InvalidUpdate as error:
                refusals.append(Refusal(index, error))
        if refusals or record.problem is not None:
            reason = record.problem or self._reader.reasons(refusals)
            self._refused += len(refusals) or 1
            self._on_refused(record.line, reason)
            self._kept.append(self._reader.rejects_line(record, refusals, reason) if self._rejects else "")
        elif not record.rows:
            self._without_value += 1

    def _step(self, line: int) -> None:
        self._sink.flush()
        if self._rejects is not None:
            self._rejects.write(self._kept)
        self._kept.clear()
        counts = self._sink.counts
        self._progress = Progress(counts.rows, counts.messages, self._refused, self._without_value, line)

    def _file_broke(self, line: int, error: UnusableFile) -> ImportEnd:
        # The first error is the one to mend; how far the import got stays exact.
        with suppress(EnqueueFailed, UnusableFile):
            self._step(line)
        return ImportEnd(self._progress, error=str(error))
