"""What happened, judged from what the sandbox saw and what was enqueued. Pure.

lost      a key does not hold its newest value, and no dead letter has it
stale     an older value was applied after a newer one of the same key
overrun   more calls within some 60 s than the limit allows
attempts  a row paid for a refusal that was not its own, or did not pay for one that was
sums      received is not saved + superseded + dead + purged + waiting
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.acceptance.harness.workload import KeyHistory

WINDOW_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Findings:
    """Everything that is wrong; empty if nothing is."""

    lost: tuple[str, ...] = ()
    stale: tuple[str, ...] = ()
    overrun: tuple[str, ...] = ()
    attempts: tuple[str, ...] = ()
    sums: tuple[str, ...] = ()

    @property
    def all(self) -> tuple[str, ...]:
        return self.lost + self.stale + self.overrun + self.attempts + self.sums


def stale_applications(sends: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """Applications of an older value after a newer one of the same key, in the order of the journal."""
    newest: dict[tuple[str, str], int] = {}
    found = []
    for send in sends:
        key, value = (send["id"], send["identity"]), int(send["value"])
        if value < newest.get(key, 0):
            found.append(f"{send['identity']}: {value} after {newest[key]} (call {send['call']}, row {send['index']})")
        newest[key] = max(newest.get(key, 0), value)
    return tuple(found)


def lost_values(
    keys: Mapping[str, KeyHistory], values: Iterable[Mapping[str, Any]], dead: Mapping[str, int]
) -> tuple[str, ...]:
    """Keys that neither hold their newest value nor have it as a dead letter.

    Args:
        values: what the sandbox holds.
        dead: customer → newest value among the dead letters.
    """
    held = {value["identity"]: int(value["value"]) for value in values}
    return tuple(
        f"{customer}: {history.taken} was taken, {held.get(customer, 'nothing')} is held"
        for customer, history in keys.items()
        if max(held.get(customer, 0), dead.get(customer, 0)) < history.taken
    )


def most_in_window(moments: Sequence[float], seconds: float = WINDOW_SECONDS) -> int:
    """The most events in any window of so many seconds."""
    ordered, first, most = sorted(moments), 0, 0
    for last, moment in enumerate(ordered):
        while moment - ordered[first] >= seconds:
            first += 1
        most = max(most, last - first + 1)
    return most


def overruns(calls: Iterable[Mapping[str, Any]], *, per_minute: int) -> tuple[str, ...]:
    """Windows of 60 s with more calls than allowed, by the server's clock."""
    most = most_in_window([call["received_at"] for call in calls])
    return () if most <= per_minute else (f"{most} calls within 60 s, allowed are {per_minute}",)


def refusals(calls: Iterable[Mapping[str, Any]]) -> Counter[str]:
    """How often each customer's row was refused in a processed call."""
    counted: Counter[str] = Counter()
    for call in calls:
        for index in call["errors"]:
            counted[call["rows"][index]["identity"]] += 1
    return counted


def wrong_attempts(
    calls: Iterable[Mapping[str, Any]],
    letters: Iterable[Mapping[str, Any]],
    *,
    max_attempts: int,
    hold_seconds: float,
) -> tuple[str, ...]:
    """Rows that paid too much or too little.

    Too much: a row died of its attempts, but has less often been in `errors`, or alone in a call (401 and 429 aside,
    which say nothing about rows). Too little: it was named in answers more often than allowed. Of these only such
    count as were surely noted: without a fault, and the row came again sooner than it could have after a call whose
    outcome was lost.

    Args:
        calls: with their rows, in the order of their arrival.
        letters: the dead letters.
    """
    reasons: Counter[tuple[str, str]] = Counter()
    noted: Counter[tuple[str, str]] = Counter()
    named_at: dict[tuple[str, str], float] = {}
    for call in calls:
        alone = len(call["rows"]) == 1 and call["status"] not in (401, 429)
        for index, row in enumerate(call["rows"]):
            update = (row["identity"], row["value"])
            named = index in call["errors"]
            reasons[update] += named or alone
            before = named_at.pop(update, None)
            noted[update] += before is not None and call["received_at"] - before < hold_seconds
            if named and call["fault"] is None:
                named_at[update] = call["received_at"]
    found = []
    for letter in letters:
        if letter["reason_class"] == "attempts":
            update, charged = (letter["row"]["customer_id"], letter["row"]["value"]), len(letter["attempts"])
            if charged != max_attempts:
                found.append(f"{update[0]}: {charged} attempts were noted, allowed are {max_attempts}")
            if charged > reasons[update]:
                found.append(
                    f"{update[0]}: {charged} attempts were noted, the server refused it {reasons[update]} times"
                )
    found += [
        f"{customer}: {count + 1} calls refused value {value}, allowed are {max_attempts}"
        for (customer, value), count in noted.items()
        if count >= max_attempts
    ]
    return tuple(found)


def calls_by_customer(calls: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """How many calls each customer's rows were in."""
    counted: dict[str, int] = defaultdict(int)
    for call in calls:
        for row in call["rows"]:
            counted[row["identity"]] += 1
    return dict(counted)


def wrong_sums(status: Mapping[str, Any], *, at_least: int, at_most: int) -> tuple[str, ...]:
    """Whether every received row is accounted for, and every enqueued row was received.

    Args:
        status: the figures of `Outbox.status`.
        at_least: rows that Redis surely took.
        at_most: those, and rows of which nobody knows.
    """
    counts = status["counts"]
    received = counts.get("received", 0)
    parts = {
        "saved": counts.get("saved", 0),
        "superseded": counts.get("superseded", 0),
        "dead": status["dead"],
        "purged": counts.get("purged", 0),
        "waiting": status["waiting"],
    }
    found = []
    if received != sum(parts.values()):
        found.append(f"received {received} is not the sum of {parts}")
    if not at_least <= received <= at_most:
        found.append(f"received {received}, but {at_least} to {at_most} rows were taken")
    return tuple(found)
