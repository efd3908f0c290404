"""The documented rate limit: so many requests a minute for an address, then a penalty."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

WINDOW_SECONDS: Final = 60.0


@dataclass(slots=True)
class _Address:
    admitted: deque[float] = field(default_factory=deque)
    refused_until: float = 0.0


class AddressLimit:
    """A sliding window for each client address.

    Args:
        per_minute: Requests in any 60 seconds; None is no limit.
        penalty_seconds: How long an address that overran is refused. Then it starts with an empty window, since
            `Retry-After` promised it so.
        clock: Monotonic seconds.
    """

    def __init__(self, per_minute: int | None, penalty_seconds: float, clock: Callable[[], float]) -> None:
        self._per_minute = per_minute
        self._penalty_seconds = penalty_seconds
        self._clock = clock
        self._addresses: dict[str, _Address] = {}

    def seconds_refused(self, address: str) -> float | None:
        """Count a request of this address. None: it may pass; else the seconds until the next one may."""
        if self._per_minute is None:
            return None
        now = self._clock()
        seen = self._addresses.get(address)
        if seen is None:
            seen = self._addresses[address] = _Address()
        if now < seen.refused_until:
            return seen.refused_until - now
        admitted = seen.admitted
        while admitted and admitted[0] <= now - WINDOW_SECONDS:
            admitted.popleft()
        if len(admitted) < self._per_minute:
            admitted.append(now)
            return None
        admitted.clear()
        seen.refused_until = now + self._penalty_seconds
        return self._penalty_seconds
