"""Erasure in its order: the queue, the outbox, the dead letters, the memory of versions."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any
from uuid import UUID

from bunce_attributes.dead_letters import DeadLetter, DeadLetters, Kind
from bunce_attributes.dead_letters.filters import names
from bunce_attributes.forgetting.messages import attributes_in, without_customer
from bunce_attributes.forgetting.outbox_rows import OutboxEraser
from bunce_attributes.forgetting.queue import QueueEraser
from bunce_attributes.identifiers import Identifiers
from bunce_attributes.outbox.outbox import Outbox
from bunce_attributes.outbox.scripts import Script, source
from bunce_attributes.settings import Settings

PAGE = 1_000


@dataclass(slots=True)
class Forgotten:
    """What was erased; rows unless it says otherwise."""

    queue: int = 0
    outbox: int = 0
    dead_letters: int = 0
    dead_messages_rewritten: int = 0
    """Messages among the dead letters that held rows of others too; they stay without the customer's rows."""
    unreadable_messages: int = 0
    """Messages that could not be taken apart, but held the name: they left whole, in queue or dead letters."""
    versions: int = 0
    """Remembered versions."""
    still_in_calls: int = 0
    """Rows that are being sent and could not be waited for: run it again."""
    attributes: list[str] = field(default_factory=list)
    """The attributes for which remembered versions were looked for."""


def forget(
    outbox: Outbox,
    settings: Settings,
    customer: Identifiers,
    *,
    attributes: Iterable[str] = (),
    longest_wait_seconds: float | None = None,
    tell: Callable[[str], None] | None = None,
) -> Forgotten:
    """Erase everything kept about a customer; what is interrupted is finished by doing it again.

    Args:
        customer: all names at once: a row is found by any of them.
        attributes: ids beside those that are found, for the memory of versions, which holds only digests.
        longest_wait_seconds: for rows in a call; by default a lease and a little.
        tell: what is being done.

    Raises:
        QueueBusy: the queue could not be had for itself.
        LaterLayout: a row was written by a later release.
        redis.exceptions.RedisError: Redis is out of reach.
    """
    result, tell = Forgotten(), tell or (lambda _: None)
    seen = set(attributes)
    tell("the queue")
    queue = QueueEraser(outbox, customer).run()
    result.queue, result.unreadable_messages = queue.rows, queue.unreadable
    tell("the outbox")
    wait = settings.lease_seconds + 5 if longest_wait_seconds is None else longest_wait_seconds
    eraser = OutboxEraser(outbox, customer, longest_wait_seconds=wait)
    rows = eraser.run()
    result.outbox, result.still_in_calls = rows.rows, rows.still_in_calls
    tell("the dead letters")
    letters = DeadLetters(outbox, settings.remembered_seconds)
    doomed = list(_doomed(outbox, letters, customer, seen, result))
    result.dead_letters = letters.purge(doomed)
    tell("the memory of versions")
    seen |= queue.attributes | eraser.attributes | _attributes_of_tallies(outbox)
    result.attributes = sorted(_canonical(seen))
    result.versions = _forget_versions(outbox, customer.digests(result.attributes))
    return result


def _doomed(
    outbox: Outbox, letters: DeadLetters, customer: Identifiers, seen: set[str], result: Forgotten
) -> Iterator[str]:
    """Ids of the dead letters to purge; messages with rows of others are rewritten on the way."""
    rewrite = outbox.client.register_script(source(Script.REWRITE))
    for letter in letters.walk():
        seen.update(_attributes_of(letter))
        if not names(letter, customer):
            continue
        raw = letter.raw
        new = None if raw is None else without_customer(raw, letter.message, customer)
        if raw is None or new is None or new.empty:
            result.unreadable_messages += new is not None and new.whole
            yield letter.id
            continue
        old = hashlib.sha1(raw, usedforsecurity=False).hexdigest()
        args: list[str | bytes | int] = [
            outbox.now_ms,
            "",
            0,
            f"{outbox.namespace}:dead:raw",
            "",
            letter.id,
            old,
            new.message,
            0,
        ]
        rewrite(keys=[outbox.namespace], args=args)
        result.dead_messages_rewritten += 1


def _attributes_of(letter: DeadLetter) -> set[str]:
    if letter.kind is Kind.MESSAGE:
        return attributes_in(letter.message)
    return {letter.attribute} if letter.attribute is not None else set()


def _attributes_of_tallies(outbox: Outbox) -> set[str]:
    client: Any = outbox.client
    fields = {*client.hkeys(f"{outbox.namespace}:tallies"), *client.hkeys(f"{outbox.namespace}:brakes")}
    return {field.decode("utf-8", "replace").removeprefix("free:") for field in fields}


def _canonical(attributes: Iterable[str]) -> Iterator[str]:
    for attribute in attributes:
        try:
            yield str(UUID(attribute))
        except ValueError:
            continue


def _forget_versions(outbox: Outbox, digests: set[bytes]) -> int:
    client: Any = outbox.client
    unlearn = client.register_script(source(Script.UNLEARN))
    forgotten = 0
    for key in client.scan_iter(match=f"{outbox.namespace}:seen:*", count=1_000):
        rest = iter(digests)
        while page := list(islice(rest, PAGE)):
            forgotten += int(unlearn(keys=[outbox.namespace], args=[outbox.now_ms, key, *page]))
    return forgotten
