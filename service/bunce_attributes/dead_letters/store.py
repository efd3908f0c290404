"""The dead letters of a namespace: typed verbs over the scripts, a few hundred at a time.

Errors: redis-py's own. Whatever is interrupted has done some of the dead letters wholly and the others not at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any
from uuid import uuid4

from bunce_attributes.dead_letters.filters import Filter
from bunce_attributes.dead_letters.letters import DeadLetter, parse_letter
from bunce_attributes.dead_letters.requeueing import messages_for
from bunce_attributes.messages import Unreadable
from bunce_attributes.outbox.outbox import Outbox
from bunce_attributes.outbox.scripts import Script, source

PAGE = 200
"""Dead letters in one step: a few milliseconds of Redis."""
PAGE_BYTES = 4 * 1024 * 1024
RETIRE_HOLDS_MS = 50_000
"""How long the worker that ends retentions is the only one; less than the minute after which it looks again."""

_WHY = {
    b"waiting": "a newer value, or this very one, is waiting",
    b"in_call": "a newer value, or this very one, is being sent",
    b"delivered": "a newer value, or this very one, has been delivered",
    b"newer": "a newer value of the same key has been delivered or has died since",
}


@dataclass(frozen=True, slots=True)
class Skipped:
    """A dead letter that was left as it is, and why."""

    id: str
    why: str
    forcible: bool = True
    """Whether `force` would send it nevertheless."""


@dataclass(slots=True)
class Replayed:
    """What a replay did."""

    updates: int = 0
    """Back in the outbox, with fresh attempts."""
    requeued: int = 0
    """Rows that were never valid and messages that could not be read, back in the queue to be judged again."""
    skipped: list[Skipped] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    """Ids of dead letters that are not there (any more)."""


class DeadLetters:
    """Dead letters of one namespace.

    Args:
        outbox: of the namespace.
        memory_seconds: BUNCE_VERSION_MEMORY_SECONDS.
    """

    def __init__(self, outbox: Outbox, memory_seconds: float) -> None:
        self._client = outbox.client
        self._namespace = outbox.namespace
        self._now_ms = outbox.now_ms
        self._memory_ms = round(memory_seconds * 1000)
        self._index = f"{outbox.namespace}:dead:index"
        self._scripts = {
            script: outbox.client.register_script(source(script))
            for script in (Script.PURGE, Script.RETIRE, Script.DEAD_PAGE, Script.REPLAY, Script.REQUEUE)
        }
        self._token = uuid4().hex

    def __len__(self) -> int:
        return int(self._client.zcard(self._index))

    # -- reading -------------------------------------------------------------------------------------------------

    def get(self, letter_id: str) -> DeadLetter | None:
        """One dead letter."""
        return next(iter(self.read([letter_id])), None)

    def read(self, ids: Iterable[str]) -> Iterator[DeadLetter]:
        """Those of these dead letters that are there, in the given order."""
        for page in _pages(ids):
            left = page
            while left:
                flat = self._run(Script.DEAD_PAGE, PAGE_BYTES, *left)
                read = len(flat) // 2
                for letter_id, text, raw in zip(left[:read], flat[::2], flat[1::2], strict=True):
                    if text is not None:
                        yield parse_letter(letter_id, text, raw)
                left = left[read:]

    def walk(
        self, chosen: Filter | None = None, *, newest_first: bool = False, after: str = ""
    ) -> Iterator[DeadLetter]:
        """The dead letters that a filter means.

        Args:
            chosen: without it all.
            newest_first: else the oldest first.
            after: the id after which, in this order, to begin.
        """
        chosen = chosen or Filter()
        for letter in self.read(self._ids(chosen, newest_first=newest_first, after=after)):
            if chosen.matches(letter):
                yield letter

    def find(self, chosen: Filter) -> list[str]:
        """The ids that a filter means, oldest first; held in memory, so that what was counted is what is changed."""
        if chosen.by_index:
            return list(self._ids(chosen, newest_first=False, after=""))
        return [letter.id for letter in self.walk(chosen)]

    def _ids(self, chosen: Filter, *, newest_first: bool, after: str) -> Iterator[str]:
        """Ids begin with the moment in ms, which is also their score; paging goes by both, since many share one."""
        low: float | str = "-inf" if chosen.since_ms is None else chosen.since_ms
        high: float | str = "+inf" if chosen.until_ms is None else chosen.until_ms
        last, offset = after, 0
        while True:
            if last:
                bound = int(last.partition("-")[0])
                low, high = (low, bound) if newest_first else (bound, high)
            page = self._range(low, high, offset, newest_first=newest_first)
            fresh = [one for one in page if not last or (one < last if newest_first else one > last)]
            yield from fresh
            if len(page) < PAGE:
                return
            # A page without news lies wholly in the milliseconds that were read before.
            if not fresh or _same_moment(fresh[-1], last):
                offset += PAGE
            else:
                offset = 0
            last = fresh[-1] if fresh else last

    def _range(self, low: float | str, high: float | str, offset: int, *, newest_first: bool) -> list[str]:
        if newest_first:
            found: Any = self._client.zrevrangebyscore(self._index, high, low, start=offset, num=PAGE)
        else:
            found = self._client.zrangebyscore(self._index, low, high, start=offset, num=PAGE)
        return [one.decode() for one in found]

    # -- changing ------------------------------------------------------------------------------------------------

    def purge(self, ids: Iterable[str], progress: Callable[[int], None] = lambda _: None) -> int:
        """Forget dead letters for good; how many there were."""
        purged = done = 0
        for page in _pages(ids):
            purged += int(self._run(Script.PURGE, self._memory_ms, *page))
            done += len(page)
            progress(done)
        return purged

    def replay(
        self, ids: Iterable[str], *, force: bool = False, progress: Callable[[int], None] = lambda _: None
    ) -> Replayed:
        """Receive dead letters anew. An update keeps its version and history and has fresh attempts.

        Args:
            ids: oldest first, so that the versions of a key come in their order.
            force: also what a newer value has overtaken, as the newest value; and what cannot be read.
            progress: told how many are done.
        """
        result, done = Replayed(), 0
        for page in _pages(ids):
            outcomes = self._run(Script.REPLAY, int(force), self._memory_ms, *page)
            never_valid = []
            for letter_id, outcome in zip(page, outcomes, strict=True):
                match outcome:
                    case b"replayed":
                        result.updates += 1
                    case b"gone":
                        result.gone.append(letter_id)
                    case b"no_update":
                        never_valid.append(letter_id)
                    case why:
                        result.skipped.append(Skipped(letter_id, _WHY[why]))
            for letter in self.read(never_valid):
                self._requeue(letter, result, force=force)
            done += len(page)
            progress(done)
        return result

    def _requeue(self, letter: DeadLetter, result: Replayed, *, force: bool) -> None:
        messages = messages_for(letter, self._namespace, force=force)
        if isinstance(messages, Unreadable):
            result.skipped.append(Skipped(letter.id, messages.reason, forcible=False))
        elif self._run(Script.REQUEUE, letter.id, len(messages), *messages)[0]:
            result.requeued += 1
        else:
            result.gone.append(letter.id)

    def purge_expired(self, retention_days: float, *, most: int = 10_000) -> int:
        """Purge what died longer than ``retention_days`` ago, if no other worker does so; how many were purged.

        Args:
            retention_days: 0 keeps everything.
            most: in one go; the rest is left to the next one.
        """
        purged = 0
        while retention_days > 0 and purged < most:
            did, more = self._run(
                Script.RETIRE,
                round(retention_days * 86_400_000),
                PAGE,
                self._token,
                RETIRE_HOLDS_MS,
                self._memory_ms,
            )
            purged += int(did)
            if not more:
                break
        return purged

    def _run(self, script: Script, *args: str | bytes | int | float) -> Any:
        return self._scripts[script](keys=[self._namespace], args=[self._now_ms, *args])


def _pages(ids: Iterable[str]) -> Iterator[Sequence[str]]:
    rest = iter(ids)
    while page := list(islice(rest, PAGE)):
        yield page


def _same_moment(one: str, other: str) -> bool:
    return one.partition("-")[0] == other.partition("-")[0]
