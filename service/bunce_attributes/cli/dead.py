"""`bunce-attributes dead`: list, show, replay, export, purge."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from uuid import UUID

import click

from bunce_attributes.cli.common import EXIT_FAILED, EXIT_USAGE, fail, redis_errors, settings_or_exit
from bunce_attributes.cli.dead_pages import letter_json, letter_page, letters_table
from bunce_attributes.cli.questions import confirmed
from bunce_attributes.connections import connect
from bunce_attributes.dead_letters import DeadLetter, DeadLetters, Filter, Replayed, UnusableMoment, moment_ms
from bunce_attributes.dead_letters.requeueing import export_lines, verbatim_line
from bunce_attributes.identifiers import Identifiers
from bunce_attributes.outbox.outbox import Outbox
from bunce_attributes.settings import Settings

SOME_REFUSED = 3
SHOWN_SKIPPED = 20
REASONS = ("attempts", "too_large", "invalid", "expired", "unreadable")
_is_id = re.compile(r"\d{13}-\d+").fullmatch


@dataclass(frozen=True, slots=True)
class Opened:
    """The dead letters of a namespace, and Redis' clock for the ages that were given."""

    letters: DeadLetters
    now_ms: int


@contextmanager
def _opened() -> Iterator[Opened]:
    settings: Settings = settings_or_exit()
    with connect(settings.redis_url, client_name=f"{settings.namespace}-dead") as client, redis_errors(settings):
        outbox = Outbox(client, settings)
        seconds, microseconds = client.time()
        yield Opened(DeadLetters(outbox, settings.remembered_seconds), int(seconds) * 1000 + int(microseconds) // 1000)


def _filters(command: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(
        (
            click.option(
                "--reason",
                multiple=True,
                type=click.Choice(REASONS),
                help="Why they died: attempts = refused too often. May be repeated.",
            ),
            click.option("--attribute", metavar="ID", help="The attribute's UUID."),
            click.option("--customer", metavar="NAME", help="The customer's id or e-mail address."),
            click.option("--since", metavar="WHEN", help="Died at or after: an age (2h, 7d) or ISO 8601 (UTC)."),
            click.option("--until", metavar="WHEN", help="Died at or before."),
        )
    ):
        command = option(command)
    return command


def _filter(given: dict[str, Any], now_ms: int) -> Filter:
    try:
        moments = [None if given[name] is None else moment_ms(given[name], now_ms) for name in ("since", "until")]
    except UnusableMoment as error:
        fail(f"Error: {error}", EXIT_USAGE)
    attribute = given["attribute"]
    if attribute is not None:
        try:
            attribute = str(UUID(attribute))
        except ValueError:
            fail(f"Error: --attribute must be the attribute's UUID, and {attribute!r} is none", EXIT_USAGE)
    customer = given["customer"]
    return Filter(
        reasons=frozenset(given["reason"]),
        attribute=attribute,
        customer=None if customer is None else Identifiers.either(customer),
        since_ms=moments[0],
        until_ms=moments[1],
    )


def _ids_of(ids: tuple[str, ...]) -> list[str]:
    for one in ids:
        if not _is_id(one):
            fail(f"Error: {one!r} is no id of a dead letter; `dead list` shows them", EXIT_USAGE)
    return list(dict.fromkeys(ids))


def _chosen(opened: Opened, ids: tuple[str, ...], everything: bool, given: dict[str, Any], verb: str) -> list[str]:
    """The ids that are meant: named, or by filter, or all."""
    chosen = _filter(given, opened.now_ms)
    if bool(ids) + everything + (not chosen.everything) != 1:
        fail(f"Error: name what to {verb}: either ids, or filters such as --reason, or --all", EXIT_USAGE)
    return _ids_of(ids) or opened.letters.find(chosen)


@click.group(short_help="List, show, replay, export or purge dead letters.")
def dead() -> None:
    """Updates that were given up on: refused too often, expired, or never valid.

    They stay until they are replayed or purged, or for BUNCE_DEAD_RETENTION_DAYS.
    """


@dead.command("list", short_help="Show them, the newest first.")
@_filters
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="How many to show.")
@click.option("--before", metavar="ID", help="Go on after the last one of the page before.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, with the row.")
def list_(limit: int, before: str | None, as_json: bool, **given: Any) -> None:
    """The newest first, a page at a time."""
    after = _ids_of((before,))[0] if before is not None else ""
    with _opened() as opened:
        chosen = _filter(given, opened.now_ms)
        shown: list[DeadLetter] = []
        more = False
        for letter in opened.letters.walk(chosen, newest_first=True, after=after):
            if len(shown) == limit:
                more = True
                break
            shown.append(letter)
        total = len(opened.letters)
    if as_json:
        for letter in shown:
            click.echo(json.dumps(letter_json(letter), default=str))
    else:
        letters_table(shown, total)
    if more:
        click.echo(f"There are more: add --before {shown[-1].id}", err=True)


@dead.command(short_help="Show one with all its attempts.")
@click.argument("letter_id", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="As one JSON object.")
def show(letter_id: str, as_json: bool) -> None:
    """One dead letter: the row, every attempt, and what the API answered."""
    one = _ids_of((letter_id,))[0]
    with _opened() as opened:
        letter = opened.letters.get(one)
    if letter is None:
        fail(_gone(one), EXIT_FAILED)
    if as_json:
        click.echo(json.dumps(letter_json(letter), default=str, indent=2))
    else:
        letter_page(letter)


@dead.command(short_help="Send them again, with fresh attempts.")
@click.argument("ids", metavar="[ID]...", nargs=-1)
@_filters
@click.option("--all", "everything", is_flag=True, help="Every dead letter.")
@click.option("--force", is_flag=True, help="Also what a newer value has overtaken: it becomes the newest value.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def replay(ids: tuple[str, ...], everything: bool, force: bool, yes: bool, **given: Any) -> None:
    """Send again, with fresh attempts; the history is kept.

    A value that a newer one has overtaken stays a dead letter and is reported. Exit code 3 if there were any.
    """
    with _opened() as opened:
        chosen = _chosen(opened, ids, everything, given, "replay")
        if not chosen:
            click.echo("No dead letter fits.")
            return
        if not ids and not confirmed(f"Replay {_count(len(chosen), 'dead letter')}?", yes=yes):
            fail("Nothing was replayed.")
        with _progress("replayed", len(chosen)) as progress:
            result = opened.letters.replay(chosen, force=force, progress=progress)
    _report(result)
    if result.gone and ids:
        fail("\n".join(_gone(one) for one in result.gone))
    if result.skipped:
        sys.exit(SOME_REFUSED)


def _report(result: Replayed) -> None:
    if result.updates or not (result.requeued or result.skipped or result.gone):
        click.echo(f"{_count(result.updates, 'update')} will be sent again.")
    if result.requeued:
        click.echo(f"{_count(result.requeued, 'dead letter')} went back into the queue, to be judged again.")
    if result.skipped:
        number = len(result.skipped)
        click.echo(f"{_count(number, 'dead letter')} stayed as {'it is' if number == 1 else 'they are'}:")
        for skipped in result.skipped[:SHOWN_SKIPPED]:
            click.echo(f"  {skipped.id}: {skipped.why}")
        if len(result.skipped) > SHOWN_SKIPPED:
            click.echo(f"  … and {len(result.skipped) - SHOWN_SKIPPED:,} more")
        if any(skipped.forcible for skipped in result.skipped):
            click.echo("To replay what a newer value has overtaken, as the newest value of its key, add --force.")


@dead.command(short_help="Write them as JSON lines for `bunce-attributes enqueue`.")
@_filters
@click.option("--output", metavar="FILE", help="Write here instead of to the standard output.")
@click.option(
    "--unreadable-to", metavar="FILE", help="Write messages that cannot be read here, verbatim, as JSON lines."
)
def export(output: str | None, unreadable_to: str | None, **given: Any) -> None:
    """JSON lines that `bunce-attributes enqueue` accepts; the dead letters stay.

    Each line carries its version (accepted_at), so that enqueueing it never revives an old value. A row that was
    never valid has its line, the reason and the row: mend the row and enqueue the file. Messages that cannot be read
    go to --unreadable-to, or are counted and left out.
    """
    lines = skipped = 0
    with _opened() as opened, _written(output) as named_file, _written(unreadable_to) as raw_file:
        rows_file = named_file or sys.stdout
        for number, letter in enumerate(opened.letters.walk(_filter(given, opened.now_ms)), 1):
            exported = list(export_lines(letter, number))
            if not exported and raw_file is not None:
                raw_file.write(verbatim_line(letter))
            skipped += not exported
            lines += len(exported)
            rows_file.writelines(exported)
    click.echo(f"{_count(lines, 'row')} exported.", err=True)
    if skipped:
        where = f"kept in {unreadable_to}" if unreadable_to else "left out; --unreadable-to FILE keeps them"
        click.echo(f"{_count(skipped, 'message')} cannot be read: {where}.", err=True)


@dead.command(short_help="Delete them for good.")
@click.argument("ids", metavar="[ID]...", nargs=-1)
@_filters
@click.option("--all", "everything", is_flag=True, help="Every dead letter.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def purge(ids: tuple[str, ...], everything: bool, yes: bool, **given: Any) -> None:
    """Delete for good; counted as purged."""
    with _opened() as opened:
        chosen = _chosen(opened, ids, everything, given, "purge")
        if not chosen:
            click.echo("No dead letter fits.")
            return
        if not confirmed(f"Delete {_count(len(chosen), 'dead letter')} for good?", yes=yes):
            fail("Nothing was purged.")
        with _progress("purged", len(chosen)) as progress:
            purged = opened.letters.purge(chosen, progress)
    click.echo(f"{_count(purged, 'dead letter')} purged.")
    if ids and purged < len(chosen):
        fail(f"{_count(len(chosen) - purged, 'dead letter')} of these ids were not there.")


def _gone(letter_id: str) -> str:
    return f"There is no dead letter {letter_id}: it was replayed, purged, or its retention has ended."


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


@contextmanager
def _progress(verb: str, total: int) -> Iterator[Callable[[int], None]]:
    if not sys.stderr.isatty() or total < 1_000:
        yield lambda _: None
        return
    yield lambda done: click.echo(f"\r{done:,} of {total:,} {verb}", nl=False, err=True)
    click.echo("", err=True)


@contextmanager
def _written(path: str | None) -> Iterator[IO[str] | None]:
    """The file of that name, readable by its owner alone: it holds customers' data."""
    if path is None:
        yield None
        return
    try:
        descriptor = os.open(Path(path), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            yield file
    except OSError as error:
        fail(f"Error: {path} cannot be written: {error.strerror}")
