"""When a refused row is sent again, and when it is given up. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """The limits of BUNCE_MAX_ATTEMPTS, BUNCE_RETRY_BASE_SECONDS and BUNCE_RETRY_MAX_SECONDS."""

    max_attempts: int
    base_seconds: float
    max_seconds: float


@dataclass(frozen=True, slots=True)
class RetryLater:
    """Back in the outbox, due in ``delay_seconds``."""

    delay_seconds: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """A dead letter: the attempts are used up."""

    attempts: int


def next_step(attempts: int, policy: RetryPolicy, jitter: float) -> RetryLater | GiveUp:
    """What happens to a row that has now been refused ``attempts`` times (at least once).

    Args:
        jitter: from 0 to 1; the delay lies between half and the whole of base x 2**(attempts - 1), so that rows
            refused together do not all come back together.
    """
    if attempts >= policy.max_attempts:
        return GiveUp(attempts)
    # The exponent is bounded because 2.0**1024 is an error; 60 doublings exceed every maximum.
    whole = min(policy.max_seconds, policy.base_seconds * 2.0 ** min(attempts - 1, 60))
    return RetryLater(whole * (0.5 + jitter / 2))
