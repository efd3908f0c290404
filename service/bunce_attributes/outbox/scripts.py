"""The Lua scripts: package data, loaded once. A file whose name begins with ``_`` is a part that others need."""

from __future__ import annotations

from enum import StrEnum
from functools import cache
from importlib.resources import files


class Script(StrEnum):
    """One script a verb; its file's head tells KEYS, ARGV with units, and results."""

    INTAKE_CLAIM = "intake_claim"
    INTAKE_ACCEPT = "intake_accept"
    INTAKE_RELEASE = "intake_release"
    POLL = "poll"
    CLAIM = "claim"
    SETTLE = "settle"
    PERMIT = "permit"
    STATUS = "status"
    PAUSE = "pause"
    RESUME = "resume"
    PURGE = "purge"
    RETIRE = "retire"
    DEAD_PAGE = "dead_page"
    REPLAY = "replay"
    REQUEUE = "requeue"
    INTAKE_HOLD = "intake_hold"
    REWRITE = "rewrite"
    ERASE = "erase"
    UNLEARN = "unlearn"


_PARTS = {
    Script.INTAKE_CLAIM: ("_common",),
    Script.INTAKE_ACCEPT: ("_common",),
    Script.INTAKE_RELEASE: ("_common",),
    Script.POLL: ("_common", "_waiting", "_gate"),
    Script.CLAIM: ("_common", "_waiting", "_gate"),
    Script.SETTLE: ("_common", "_waiting", "_gate"),
    Script.PERMIT: ("_common", "_gate"),
    Script.STATUS: ("_common", "_gate"),
    Script.PAUSE: ("_common",),
    Script.RESUME: ("_common", "_waiting"),
    Script.PURGE: ("_common", "_dead"),
    Script.RETIRE: ("_common", "_dead"),
    Script.DEAD_PAGE: ("_common",),
    Script.REPLAY: ("_common", "_waiting", "_dead"),
    Script.REQUEUE: ("_common", "_dead"),
    Script.INTAKE_HOLD: ("_common",),
    Script.REWRITE: ("_common",),
    Script.ERASE: ("_common",),
    Script.UNLEARN: ("_common",),
}


@cache
def source(script: Script) -> str:
    """The script with the parts it needs in front."""
    folder = files("bunce_attributes.outbox") / "lua"
    names = (*_PARTS[script], script.value)
    return "\n".join((folder / f"{name}.lua").read_text(encoding="utf-8") for name in names)
