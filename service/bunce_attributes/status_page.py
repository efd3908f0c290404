"""The page of `status`: the figures in words, and for what is wrong what to do. Pure but for rich's widgets."""

from __future__ import annotations

from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from bunce_attributes.dead_letters.letters import iso_from_ms
from bunce_attributes.status import Gate, PausedAttribute, Rates, Snapshot
from bunce_attributes.worker.heartbeat import SILENT_AFTER_SECONDS

SHOWN_ATTRIBUTES = 10


@dataclass(frozen=True, slots=True)
class Words:
    """Why no call is made, and what to do about it."""

    why: str
    mend: str


PAUSES = {
    "rate_limited": Words(
        "the API said that this address makes too many requests (HTTP 429)",
        "Nothing: calls go on by themselves. If it happens often, something else calls the API from this address, "
        "or BUNCE_REQUESTS_PER_MINUTE is too high.",
    ),
    "outage": Words(
        "calls fail, at the API or on the way to it",
        "Nothing here: one call is tried now and then, and all go on when it passes; no row loses an attempt. If it "
        "lasts, ask the vendor, and look at the network between.",
    ),
    "misconfigured": Words(
        "the API refuses to serve us",
        "Correct BUNCE_API_KEY, BUNCE_ENV or BUNCE_API_URL, and restart the workers; `bunce-attributes check` tells "
        "whether it helped. No row loses an attempt meanwhile.",
    ),
    "unreadable": Words(
        "the API's answers cannot be read, so that nobody knows what was saved",
        "See whether BUNCE_API_URL leads to the API and not to a proxy or a log-in page; else ask the vendor what "
        "changed. One call is tried every minute.",
    ),
    "operator": Words("somebody paused it", "`bunce-attributes resume` when the reason is gone."),
}


def words_for(reason: str) -> Words:
    """What a reason of the gate means; a reason of a later release stands for itself."""
    return PAUSES.get(reason, Words(reason, "Upgrade these commands to the release of the workers."))


def status_page(snapshot: Snapshot, namespace: str, rates: Rates | None = None) -> RenderableType:
    """The whole page; ``rates`` only while watching."""
    parts: list[RenderableType] = [
        Text(f"{namespace}, {iso_from_ms(snapshot.at_ms)}", style="bold"),
        gate_line(snapshot.gate),
        *_trouble(snapshot),
        Text(),
        _rows(snapshot),
        Text(),
        *_queue(snapshot),
    ]
    if rates is not None:
        parts += [Text(), *_rates(rates, snapshot)]
    return Group(*parts)


def gate_line(gate: Gate) -> RenderableType:
    """Whether calls are made; if not why, since when, for how long, and what to do."""
    if gate.is_open:
        return Text.from_markup(f"[green]Calls are made.[/] {gate.permits_used:,} in the last 60 s.")
    words = words_for(gate.reason)
    since = f" since {gate.since}" if gate.since else ""
    if gate.seconds_left is None:
        ends = ""
    elif gate.seconds_left == 0:
        ends = " The next call that is due is tried."
    else:
        ends = f" The next call is tried in {duration(gate.seconds_left)}."
    said = f"\n  {escape(gate.detail)}" if gate.detail else ""
    return Text.from_markup(
        f"[bold red]No calls are made{since}:[/] {words.why} ({gate.reason}).{ends}{said}"
        f"\n  To do: {escape(words.mend)}"
    )


def _trouble(snapshot: Snapshot) -> list[RenderableType]:
    lines: list[RenderableType] = []
    if not _living(snapshot):
        lines.append(
            Text.from_markup(
                "[bold red]No worker gave a sign of life for half a minute:[/] start `bunce-attributes worker`."
            )
        )
    if snapshot.intake_waits_because:
        lines.append(Text.from_markup(f"[yellow]The queue is not read:[/] {escape(snapshot.intake_waits_because)}."))
    lines += [_paused(one) for one in snapshot.paused_attributes[:SHOWN_ATTRIBUTES]]
    if len(snapshot.paused_attributes) > SHOWN_ATTRIBUTES:
        lines.append(Text(f"… and {len(snapshot.paused_attributes) - SHOWN_ATTRIBUTES:,} more paused attributes"))
    if snapshot.dead:
        reasons = ", ".join(f"{n:,} {name}" for name, n in snapshot.dead_by_reason.items())
        lines.append(
            Text.from_markup(
                f"[yellow]{snapshot.dead:,} dead letter{'' if snapshot.dead == 1 else 's'}[/] ({reasons}): "
                "`bunce-attributes dead list` tells why."
            )
        )
    return lines


def _paused(one: PausedAttribute) -> RenderableType:
    resume = f"`bunce-attributes resume --attribute {one.attribute}`"
    if one.by == "operator":
        why = f"paused by an operator since {one.since}"
        mend = f"{resume} when the reason is gone."
    else:
        why = (
            f"paused by the brake since {one.since}, because {one.refused:,} of its last "
            f"{one.refused + one.saved:,} rows were refused"
        )
        mend = (
            f"If the attribute was mended, {resume}. If the rows are wrong, add --bury: those that the API refuses "
            "become dead letters, to be exported, mended and enqueued again."
        )
    said = f"\n  The API says: {escape(one.answer)}" if one.answer else ""
    return Text.from_markup(
        f"[bold yellow]Attribute {one.attribute}[/] is {why}; {one.waiting:,} rows wait.{said}\n  To do: {escape(mend)}"
    )


def _rows(snapshot: Snapshot) -> RenderableType:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_column(style="dim")
    for name, number, meaning in (
        ("received", snapshot.received, "rows taken in; the sum of the next five"),
        ("  saved", snapshot.saved, "the API has them"),
        ("  superseded", snapshot.superseded, "a newer value of the same customer and attribute took their place"),
        ("  dead", snapshot.dead, "given up on; kept until replayed or purged"),
        ("  purged", snapshot.purged, "dead letters deleted or replayed, customers forgotten"),
        ("  waiting", snapshot.waiting, _oldest(snapshot)),
        ("    due", snapshot.due, f"ready: {snapshot.ready_live:,} live, {snapshot.ready_bulk:,} bulk"),
        ("    leased", snapshot.leased, f"in {snapshot.calls_running:,} calls now"),
        ("    retrying", snapshot.retrying, "wait for their next attempt, or for a pause of their key"),
        ("    braked", snapshot.braked, "of paused attributes"),
    ):
        table.add_row(name, f"{number:,}", meaning)
    return table


def _oldest(snapshot: Snapshot) -> str:
    if snapshot.oldest_waiting_seconds is None:
        return "in the outbox"
    return f"in the outbox; the oldest for {duration(snapshot.oldest_waiting_seconds)}"


def _queue(snapshot: Snapshot) -> list[RenderableType]:
    later = f", {snapshot.scheduled_messages:,} of them for later" if snapshot.scheduled_messages else ""
    living = _living(snapshot)
    names = ", ".join(living)
    return [
        Text(f"Queue: {snapshot.queued_messages:,} messages not read yet{later}"),
        Text(f"Calls made: {snapshot.calls:,}"),
        Text(f"Workers: {len(living)}" + (f" ({names})" if names else "")),
    ]


def _living(snapshot: Snapshot) -> list[str]:
    return [one.name for one in snapshot.workers if one.age_seconds < SILENT_AFTER_SECONDS]


def _rates(rates: Rates, snapshot: Snapshot) -> list[RenderableType]:
    lines = [
        Text(
            f"{rates.saved:,.1f} rows/s saved, {rates.received:,.1f} rows/s received, "
            f"{rates.calls_a_minute:,.0f} calls/min (mean of the last minute)"
        )
    ]
    if rates.empty_in_seconds is None:
        lines.append(Text("At this rate the queue does not get shorter.", style="yellow"))
    elif rates.empty_in_seconds == 0:
        rest = ", but for rows of paused attributes" if snapshot.braked else ""
        lines.append(Text(f"Nothing waits{rest}.", style="green"))
    else:
        lines.append(Text(f"Empty in about {duration(rates.empty_in_seconds)} at this rate."))
    return list(lines)


def duration(seconds: float) -> str:
    """Seconds as people say them, in two units at most."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, hours, days = seconds / 60, seconds / 3600, seconds / 86_400
    if minutes < 60:
        return f"{minutes:.0f} min"
    if hours < 24:
        return f"{int(hours)} h {int(minutes) % 60} min"
    return f"{int(days)} d {int(hours) % 24} h"
