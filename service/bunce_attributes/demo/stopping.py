"""Ctrl-C, SIGTERM and a closed terminal: the demo puts everything away, undisturbed."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

_STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def stop(_number: int = 0, _frame: FrameType | None = None) -> NoReturn:
    """Raise KeyboardInterrupt, once; further signals are ignored while everything is put away."""
    for number in _STOPS:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


@contextmanager
def stop_signals() -> Iterator[None]:
    """The signals lead to :func:`stop` for as long as the ``with`` block. For the main thread."""
    before = {number: signal.getsignal(number) for number in _STOPS}
    try:
        for number in _STOPS:
            signal.signal(number, stop)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
