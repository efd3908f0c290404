"""What the demo shows: a bar on a terminal, lines elsewhere, and a table at the end."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

_SHOWN_REFUSALS = 5
_SHOWN_CHARACTERS = 80
_PLAIN_LINE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Figures:
    """How far the delivery is, in rows; ``refused`` counts refusals by the API, a row each time."""

    enqueued: int = 0
    saved: int = 0
    superseded: int = 0
    waiting: int = 0
    refused: int = 0
    dead: int = 0

    @property
    def text(self) -> str:
        """In words."""
        return (
            f"enqueued {self.enqueued:,} · saved {self.saved:,} · waiting {self.waiting:,} · refused {self.refused:,}"
        )

    @property
    def ended(self) -> int:
        """Rows that no longer wait."""
        return self.saved + self.superseded + self.dead


@dataclass(frozen=True, slots=True)
class Group:
    """Dead letters of one kind."""

    count: int
    what: str


@dataclass(frozen=True, slots=True)
class Summary:
    """The figures of the table; rows unless the name says otherwise."""

    in_file: int
    refused_at_the_door: int
    figures: Figures
    groups: Sequence[Group]
    calls: int
    failed_calls: int
    call_rows: int
    retries: int
    seconds: float


class Display:
    """Plain lines, for logs and pipes; :func:`display` chooses."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._refusals = 0
        self._started = time.monotonic()
        self._next = 0.0
        self._last = Figures()

    def step(self, text: str) -> None:
        """Something was done."""
        self._console.print(text, markup=False, soft_wrap=True)

    def refused_line(self, line: int, reason: str) -> None:
        """A line of the file is not enqueued; the first of them are shown."""
        self._refusals += 1
        if self._refusals <= _SHOWN_REFUSALS:
            self.step(f"  line {line}: {_shortened(reason)}")

    def refused_lines_end(self) -> None:
        """No more will come."""
        if self._refusals > _SHOWN_REFUSALS:
            more = self._refusals - _SHOWN_REFUSALS
            self.step(f"  … and {more:,} more {'line that is no update' if more == 1 else 'lines that are no updates'}")

    def figures(self, figures: Figures, total: int) -> None:
        """How far; ``total`` is the number of rows that will be enqueued."""
        now = time.monotonic()
        if figures != self._last and (now >= self._next or figures.ended == total):
            self._last, self._next = figures, now + _PLAIN_LINE_SECONDS
            self.step(f"{now - self._started:5.1f} s  {figures.text}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to put away."""


class BarDisplay(Display):
    """A bar of the rows that no longer wait, for a terminal."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._bar = Progress(
            BarColumn(bar_width=14),
            TextColumn("{task.description}", markup=False),
            TimeElapsedColumn(),
            console=console,
        )
        self._task = self._bar.add_task(Figures().text, total=None)

    def figures(self, figures: Figures, total: int) -> None:
        """Move the bar."""
        self._bar.update(self._task, total=total, completed=figures.ended, description=figures.text)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()


def display(console: Console) -> Display:
    """What fits the console."""
    return BarDisplay(console) if console.is_terminal else Display(console)


def show_summary(console: Console, summary: Summary) -> None:
    """The table at the end."""
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(overflow="fold")

    def add(name: str, value: str, note: str = "") -> None:
        table.add_row(name, value, Text(note, style="dim"))

    figures = summary.figures
    add("Rows in the file", f"{summary.in_file:,}")
    add("  not enqueued", f"{summary.refused_at_the_door:,}", "they are no updates: the lines above")
    add("  saved", f"{figures.saved:,}")
    add("  superseded", f"{figures.superseded:,}", "a newer value of the same key was there")
    add("  dead letters", f"{figures.dead:,}")
    for group in summary.groups:
        add("", "", f"{group.count:,} × {_shortened(group.what)}")
    add("API calls", f"{summary.calls:,}", f"{summary.failed_calls:,} of them failed" if summary.failed_calls else "")
    add("Rows a call", f"{summary.call_rows / max(summary.calls, 1):.1f}")
    add("Retries", f"{summary.retries:,}", "rows put back after the API refused them")
    add("Seconds", f"{summary.seconds:.1f}", "from the first row to the last")
    console.print()
    console.print(table)


def _shortened(text: str) -> str:
    if len(text) <= _SHOWN_CHARACTERS:
        return text
    sentence, stop, _ = text.partition(". ")
    return (
        f"{sentence}." if stop and len(sentence) < _SHOWN_CHARACTERS else f"{text[: _SHOWN_CHARACTERS - 1].rstrip()}…"
    )
