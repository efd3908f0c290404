"""``bunce-attributes enqueue FILE``: a file of updates into the queue."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Self
from uuid import UUID

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from bunce_attributes.cli.common import EXIT_FAILED, EXIT_USAGE, fail
from bunce_attributes.file_import import FileImport, ImportEnd, Interrupts, JudgeOnly, Sink
from bunce_attributes.file_import import Progress as HowFar
from bunce_attributes.producer import AttributeUpdates
from bunce_attributes.rows_file import Lines, UnusableFile, read_rows
from bunce_attributes.rows_file.rejects import RejectsFile
from bunce_attributes.settings import SettingsError, load_settings
from bunce_attributes.updates import Lane

SHOWN_REFUSALS = 20
REFRESH_SECONDS = 0.2
PLAIN_LINE_SECONDS = 10.0
"""Between two lines about progress where there is no terminal."""

SHORTEST_PACE_SECONDS = 0.5
"""A run that ends sooner is too short to tell how fast it was."""

SOME_REFUSED = 3


@dataclass(frozen=True, slots=True)
class Request:
    """The command line, so that the command that goes on can be shown."""

    file: str
    live: bool
    mapping: dict[str, str]
    dry_run: bool
    rejects: str | None

    def going_on(self, done_line: int) -> str:
        """The command that does the rest."""
        words = ["bunce-attributes", "enqueue", self.file, *(["--live"] if self.live else [])]
        for column, attribute in self.mapping.items():
            words += ["--map", f"{column}={attribute}"]
        words += ["--dry-run"] if self.dry_run else []
        words += ["--rejects", self.rejects] if self.rejects is not None else []
        return shlex.join([*words, "--skip", str(done_line)])


def _parse_map(_context: click.Context, _parameter: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    mapping: dict[str, str] = {}
    for text in given:
        column, _, attribute = text.rpartition("=")
        try:
            attribute_id = str(UUID(attribute.strip()))
        except ValueError:
            attribute_id = ""
        if not column.strip() or not attribute_id:
            raise click.BadParameter(
                f'{text!r} is not "Column=attribute id", for example "Job Title=9f171295-6935-400c-af6b-fd628a46bc71"'
            )
        if column in mapping:
            raise click.BadParameter(f"the column {column!r} is mapped twice")
        if attribute_id in mapping.values():
            raise click.BadParameter(f"two columns are mapped to the attribute {attribute_id}")
        mapping[column] = attribute_id
    return mapping


@click.command(short_help="Enqueue the updates of a file: CSV or JSON lines, plain or gzip.")
@click.argument("file", metavar="FILE|-")
@click.option("--live", is_flag=True, help="Let these rows go before others; without it they go in the lane bulk.")
@click.option(
    "--map",
    "mapping",
    multiple=True,
    metavar="COLUMN=ID",
    callback=_parse_map,
    help="CSV with one line a customer: this column holds values of this attribute. As often as you like.",
)
@click.option("--dry-run", is_flag=True, help="Judge every row and send none.")
@click.option(
    "--rejects",
    metavar="FILE",
    help="Write refused rows here with line and reason; mend them and enqueue this file. With --skip it is continued.",
)
@click.option(
    "--skip",
    type=click.IntRange(min=0),
    default=0,
    metavar="N",
    help="The first N lines are done already (the line with the columns counts), as an interrupted run says.",
)
def enqueue(file: str, live: bool, mapping: dict[str, str], dry_run: bool, rejects: str | None, skip: int) -> None:
    """Enqueue the updates of FILE (- is the standard input).

    CSV in long form has the columns id (or attribute), customer_id or customer_email, value, and if you like
    occurred_at, first_name, last_name, phone_no. CSV in wide form has one line a customer with customer_id or email,
    and --map says which columns are attributes; an empty cell changes nothing. JSON lines hold one row of the API
    a line.

    Exit codes: 0 all rows are queued, 1 failed or interrupted, 2 usage, 3 some rows were refused.
    """
    request = Request(file, live, mapping, dry_run, rejects)
    sys.exit(_enqueue(request, skip))


def _enqueue(request: Request, skip: int) -> int:
    started = time.monotonic()
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    try:
        with ExitStack() as stack:
            lines = stack.enter_context(Lines(request.file))
            reader = read_rows(lines, request.mapping)
            for note in reader.notes:
                console.print(note, markup=False)
            sink = _sink(request, stack)
            rejects = None
            if request.rejects is not None:
                head = reader.rejects_head()
                rejects = stack.enter_context(
                    RejectsFile(request.rejects, source=request.file, head=head, go_on=skip > 0)
                )
            display = stack.enter_context(_display(console, lines))
            interrupts = stack.enter_context(Interrupts())
            end = FileImport(
                reader,
                sink,
                rejects=rejects,
                skip_lines=skip,
                on_refused=display.refused,
                on_progress=display.progress,
            ).run(interrupts)
    except SettingsError as error:
        fail(str(error), EXIT_USAGE)
    except KeyboardInterrupt:
        # Before the first row: later ones are the import's to account for.
        click.echo("Interrupted. Nothing was sent.", err=True)
        return EXIT_FAILED
    except UnusableFile as error:
        click.echo(f"Error: {error}", err=True)
        return EXIT_FAILED
    return _report(request, end, time.monotonic() - started)


def _sink(request: Request, stack: ExitStack) -> Sink:
    if request.dry_run:
        return JudgeOnly()
    settings = load_settings(need_api_key=False)
    updates = stack.enter_context(AttributeUpdates(settings.redis_url, namespace=settings.namespace))
    return updates.batch(lane=Lane.LIVE if request.live else Lane.BULK)


def _report(request: Request, end: ImportEnd, seconds: float) -> int:
    done = end.progress
    lane = Lane.LIVE if request.live else Lane.BULK
    what = (
        f"{_count(done.rows, 'row')} good; nothing was sent"
        if request.dry_run
        else (f"{_count(done.rows, 'row')} queued in {_count(done.messages, 'message')}, lane {lane}")
    )
    pace = f", {done.rows / seconds:,.0f} rows/s" if seconds >= SHORTEST_PACE_SECONDS else ""
    click.echo(f"{what} ({seconds:.1f} s{pace})")
    if done.lines_without_value:
        click.echo(f"{_count(done.lines_without_value, 'line')} had no value to set")
    if done.refused:
        them = "it" if done.refused == 1 else "them"
        where = (
            f"; mend {them} in {request.rejects} and enqueue that file"
            if request.rejects
            else f"; --rejects FILE keeps {them}"
        )
        click.echo(f"{_count(done.refused, 'row')} refused{where}")
    if end.error is None and not end.interrupted:
        return SOME_REFUSED if done.refused else 0
    click.echo(f"Error: {end.error}" if end.error else "Interrupted.", err=True)
    if not done.done_line and not end.unknown_rows:
        click.echo("Nothing was sent.", err=True)
        return EXIT_FAILED
    verb = "is judged" if request.dry_run else "is queued or refused" if done.refused else "is queued"
    click.echo(
        f"Everything up to line {done.done_line} {verb}, nothing after it"
        + (f" but perhaps the next {end.unknown_rows:,} rows (twice does no harm)" if end.unknown_rows else "")
        + f". To go on:\n  {request.going_on(done.done_line)}",
        err=True,
    )
    return EXIT_FAILED


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _display(console: Console, lines: Lines) -> Display:
    return BarDisplay(console, lines) if console.is_terminal else Display(console, lines)


class Display:
    """Plain lines, for logs and pipes."""

    every_seconds = PLAIN_LINE_SECONDS

    def __init__(self, console: Console, lines: Lines) -> None:
        self._console = console
        self._lines = lines
        self._refusals = 0
        self._next = time.monotonic() + self.every_seconds
        self._clock: Callable[[], float] = time.monotonic

    def refused(self, line: int, reason: str) -> None:
        """Show the first of them."""
        self._refusals += 1
        if self._refusals <= SHOWN_REFUSALS:
            self._console.print(f"line {line}: {reason}", markup=False)
        elif self._refusals == SHOWN_REFUSALS + 1:
            self._console.print("… more are refused; --rejects FILE keeps them all", markup=False)

    def progress(self, done: HowFar) -> None:
        """Show how far the import is, now and then."""
        now = self._clock()
        if now >= self._next:
            self._next = now + self.every_seconds
            self.show(done)

    def show(self, done: HowFar) -> None:
        """One line."""
        self._console.print(self.text(done), markup=False)

    def text(self, done: HowFar) -> str:
        """How far, in words."""
        refused = f", {done.refused:,} refused" if done.refused else ""
        return f"line {self._lines.number}: {done.rows:,} rows{refused}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to put away."""


class BarDisplay(Display):
    """A bar that moves with the bytes read, for a terminal."""

    every_seconds = REFRESH_SECONDS

    def __init__(self, console: Console, lines: Lines) -> None:
        super().__init__(console, lines)
        columns = [BarColumn(), TextColumn("{task.percentage:>3.0f}%"), TimeRemainingColumn()] if lines.size else []
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            *columns,
            console=console,
            transient=True,
            auto_refresh=False,
        )
        self._task: TaskID = self._bar.add_task("reading", total=lines.size)

    def show(self, done: HowFar) -> None:
        """Move the bar."""
        position = self._lines.position() if self._lines.size else 0
        self._bar.update(self._task, completed=position, description=self.text(done), refresh=True)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()
