"""How dead letters are shown: a table, a page, JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import click
from rich.markup import escape
from rich.table import Table

from bunce_attributes.cli.pages import page_console, print_page
from bunce_attributes.dead_letters import DeadLetter, Kind
from bunce_attributes.dead_letters.letters import iso_from_ms, iso_from_us
from bunce_attributes.dead_letters.requeueing import verbatim_line
from bunce_attributes.messages import Unreadable

REASON_CHARACTERS = 90
SHOWN_BYTES = 4_000
NARROW = 110
"""Columns of a terminal below which the moment of death, which the id tells too, makes room for the reason."""


def letter_json(letter: DeadLetter) -> dict[str, Any]:
    """A dead letter for programs; moments as ISO 8601, null if unknown."""
    shown: dict[str, Any] = {
        "id": letter.id,
        "kind": letter.kind.value,
        "died_at": iso_from_ms(letter.died_at_ms),
        "reason_class": letter.reason_class,
        "reason": letter.reason,
        "attribute": letter.attribute,
        "lane": letter.lane,
        "accepted_at": None if letter.accepted_at_us is None else iso_from_us(letter.accepted_at_us),
        "occurred_at": None if letter.occurred_at_us is None else iso_from_us(letter.occurred_at_us),
        "waiting_since": None if letter.waiting_since_ms is None else iso_from_ms(letter.waiting_since_ms),
        "attempts": [
            {"at": iso_from_ms(attempt.at_ms), "replayed": True}
            if attempt.replayed
            else {"at": iso_from_ms(attempt.at_ms), "status": attempt.status, "message": attempt.message}
            for attempt in letter.attempts
        ],
        "faults": list(letter.faults),
    }
    if letter.kind is Kind.MESSAGE:
        verbatim = json.loads(verbatim_line(letter))
        return {**shown, **{name: verbatim[name] for name in ("message", "message_base64") if name in verbatim}}
    return {**shown, "row": letter.row}


def letters_table(letters: Sequence[DeadLetter], total: int) -> None:
    """One line each; whole ids, so that they can be copied."""
    if not letters:
        click.echo("No dead letters." if not total else f"None of the {total:,} dead letters fits.")
        return
    console = page_console()
    wide = console.width >= NARROW
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("id", no_wrap=True)
    if wide:
        table.add_column("died (UTC)", no_wrap=True)
    table.add_column("class", no_wrap=True)
    table.add_column("customer", overflow="fold")
    table.add_column("reason", overflow="fold")
    for letter in letters:
        reason = letter.reason if len(letter.reason) <= REASON_CHARACTERS else f"{letter.reason[:REASON_CHARACTERS]}…"
        table.add_row(
            letter.id,
            *([iso_from_ms(letter.died_at_ms)[:-1].replace("T", " ")] if wide else []),
            letter.reason_class,
            escape(_customer(letter)),
            escape(reason),
        )
    print_page(table, console)
    click.echo(f"{len(letters):,} of {total:,} dead letters. `bunce-attributes dead show ID` tells all about one.")


def letter_page(letter: DeadLetter) -> None:
    """Everything about one."""
    facts: list[tuple[str, str]] = [
        ("dead letter", letter.id),
        ("died", iso_from_ms(letter.died_at_ms)),
        ("why", f"{letter.reason} ({letter.reason_class})"),
    ]
    if letter.attribute:
        facts.append(("attribute", letter.attribute))
    if letter.lane:
        facts.append(("lane", letter.lane))
    if letter.waiting_since_ms is not None:
        facts.append(("waiting since", iso_from_ms(letter.waiting_since_ms)))
    if letter.occurred_at_us is not None:
        facts.append(("occurred at", iso_from_us(letter.occurred_at_us)))
    if letter.accepted_at_us is not None:
        facts.append(("version", iso_from_us(letter.accepted_at_us)))
    for name, text in facts:
        click.echo(f"{name + ':':<15}{text}")
    if letter.faults:
        click.echo("faults:")
        for fault in letter.faults:
            got = "" if fault.get("value") is None else f" (got {fault['value']})"
            click.echo(f"  {fault.get('field')}: {fault.get('problem')}{got}")
    if letter.attempts:
        click.echo("attempts:")
        for number, attempt in enumerate(letter.attempts, 1):
            told = "replayed by an operator" if attempt.replayed else f"HTTP {attempt.status}: {attempt.message}"
            click.echo(f"  {number}. {iso_from_ms(attempt.at_ms)}  {told}")
    if letter.kind is Kind.MESSAGE:
        raw = letter.raw or b""
        cut = (
            "" if len(raw) <= SHOWN_BYTES else f"\n… ({len(raw):,} bytes; `dead export --unreadable-to FILE` keeps all)"
        )
        click.echo(f"message, as it came:\n{raw[:SHOWN_BYTES].decode('utf-8', 'backslashreplace')}{cut}")
    else:
        click.echo("row:\n" + json.dumps(letter.row, indent=2, ensure_ascii=True, default=str))


def _customer(letter: DeadLetter) -> str:
    if letter.kind is Kind.MESSAGE:
        if isinstance(letter.message, Unreadable):
            return "(a message)"
        return f"(a message with {len(letter.rows)} row{'' if len(letter.rows) == 1 else 's'})"
    row = letter.row
    if not isinstance(row, dict):
        return ""
    inner = row.get("customer") if isinstance(row.get("customer"), dict) else {}
    assert isinstance(inner, dict)
    named = row.get("customer_id") or row.get("customer_email") or inner.get("customer_id") or inner.get("email")
    # A row that was never valid may hold half a surrogate pair, which no terminal takes.
    return "" if named is None else str(named).encode("utf-8", "replace").decode()
