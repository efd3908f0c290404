"""A fault set at work: what each rule has counted so far, and which one takes the next call."""

import asyncio
import hashlib
import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final, Literal

from bunce_attributes.sandbox.faults import CallRule, Faults
from bunce_attributes.sandbox.rows import NamedRow

Operation = Literal["customers", "attributes"]

# Beside the numbers of the `refuse` rules: refuse_share.
_THE_SHARE: Final = -1


class _CountedRule:
    def __init__(self, rule: CallRule, seed: int, since: float) -> None:
        self.rule = rule
        self.seen = 0
        self.fired = 0
        self._random = random.Random(seed)  # noqa: S311 -- chooses calls to spoil, and must be repeatable
        self._since = since

    def takes(self, operation: Operation, rows: Sequence[NamedRow], now: float) -> bool:
        """Count a call, and say whether the rule takes it."""
        rule = self.rule
        if rule.on not in ("any", operation):
            return False
        if rule.for_seconds is not None and now - self._since >= rule.for_seconds:
            return False
        if rule.restricts and not any(rule.fits(row) for row in rows):
            return False
        self.seen += 1
        if self.seen <= rule.skip or (self.seen - rule.skip) % rule.every:
            return False
        if rule.share < 1 and self._random.random() >= rule.share:
            return False
        if rule.times is not None and self.fired >= rule.times:
            return False
        self.fired += 1
        return True


class ActiveFaults:
    """One fault set from the moment it is set until another replaces it.

    Args:
        faults: What goes wrong.
        clock: Monotonic seconds.
    """

    def __init__(self, faults: Faults, clock: Callable[[], float]) -> None:
        self.faults = faults
        self.replaced = asyncio.Event()
        self.idle = faults == Faults()
        self._clock = clock
        self._rules = [_CountedRule(rule, faults.seed + number, clock()) for number, rule in enumerate(faults.calls)]
        self._latencies = random.Random(faults.seed)  # noqa: S311 -- must be repeatable
        self._times_refused: Counter[tuple[int, NamedRow]] = Counter()
        self.refuses_rows = bool(faults.refuse) or faults.refuse_share > 0

    def latency(self) -> float:
        """Seconds that the next request takes longer."""
        latency = self.faults.latency
        return self._latencies.uniform(*latency) if isinstance(latency, tuple) else latency

    def rule_for(self, operation: Operation, rows: Sequence[NamedRow] = ()) -> CallRule | None:
        """The first rule that takes this call."""
        now = self._clock()
        return next((each.rule for each in self._rules if each.takes(operation, rows, now)), None)

    def refusal(self, row: NamedRow) -> str | None:
        """Why this row is refused this time; None if it is not. Counts a refusal."""
        for number, rule in enumerate(self.faults.refuse):
            if rule.fits(row) and self._still_refused(number, row, rule.times):
                return rule.message
        chosen = self.faults.refuse_share > 0 and self._draw(row) < self.faults.refuse_share
        if chosen and self._still_refused(_THE_SHARE, row, self.faults.refuse_times):
            return self.faults.refuse_message
        return None

    def as_json(self) -> dict[str, Any]:
        """The set itself, and for each rule how many calls it saw and took."""
        return {
            "faults": self.faults.model_dump(mode="json", exclude_defaults=True),
            "calls": [{"do": each.rule.do, "seen": each.seen, "fired": each.fired} for each in self._rules],
        }

    def _still_refused(self, rule: int, row: NamedRow, times: int | None) -> bool:
        if times is None:
            return True
        if self._times_refused[rule, row] >= times:
            return False
        self._times_refused[rule, row] += 1
        return True

    def _draw(self, row: NamedRow) -> float:
        """A number in [0, 1) that belongs to the row and the seed, the same in every process."""
        drawn = hashlib.blake2b("\0".join((str(self.faults.seed), *row)).encode(), digest_size=8)
        return int.from_bytes(drawn.digest()) / 2**64
