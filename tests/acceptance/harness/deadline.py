"""Waiting for a fact, with a deadline and without sleeping for luck."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

_T = TypeVar("_T")


def until(
    what: str,
    fact: Callable[[], _T],
    *,
    seconds: float,
    every: float = 0.05,
    explain: Callable[[], str] = lambda: "",
) -> _T:
    """The first truthy value of ``fact``.

    Raises:
        AssertionError: it did not come within ``seconds``; ``explain`` adds what was there instead.
    """
    ends = time.monotonic() + seconds
    while True:
        value = fact()
        if value:
            return value
        if time.monotonic() > ends:
            raise AssertionError(f"not within {seconds:g} s: {what}\n{explain()}")
        time.sleep(every)
