"""A finding of `check`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How bad it is. Only a fault makes `check` fail."""

    OK = "ok"
    WARNING = "warning"
    FAULT = "fault"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at: what is found, and unless it is good what to do."""

    level: Level
    what: str
    found: str
    mend: str = ""

    def __str__(self) -> str:
        stop = "" if self.found.endswith((".", "?", "!")) else "."
        return f"{self.what}: {self.found}" + (f"{stop} {self.mend}" if self.mend else "")


def ok(what: str, found: str) -> Finding:
    """Nothing to do."""
    return Finding(Level.OK, what, found)


def warning(what: str, found: str, mend: str) -> Finding:
    """Worth a look."""
    return Finding(Level.WARNING, what, found, mend)


def fault(what: str, found: str, mend: str) -> Finding:
    """To be mended."""
    return Finding(Level.FAULT, what, found, mend)
