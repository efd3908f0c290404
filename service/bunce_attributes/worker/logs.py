"""Logging of the service: one line a call, no row and no key in any line.

DEBUG   what is of use to a developer of this service
INFO    what it does: starts, stops, calls
WARNING what mends itself: a failed call, Redis out of reach
ERROR   what needs somebody: the key is refused, a message of somebody else's on our queue, a bug
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import structlog

from bunce_attributes.decisions import Verdict
from bunce_attributes.delivery import CallReport
from bunce_attributes.settings import Settings

logger = structlog.stdlib.get_logger("bunce_attributes")

_NEEDS_SOMEBODY = {Verdict.MISCONFIGURED, Verdict.UNREADABLE}


class CelerysLines(logging.Filter):
    """Celery's consumer in our terms: no message quoted, no alarm about a Redis that it waits for anyway."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Keep every line, and rewrite what does not belong into a log."""
        text = record.msg if isinstance(record.msg, str) else ""
        if "Cannot connect to" in text and "(1/" not in record.getMessage():
            # Our own line tells that Redis is away, and when it is back.
            return False
        if "message body" in text:
            # It would print whole messages that it cannot use, whatever they hold.
            record.msg = "A message on the work queue is not one of ours and was dropped; who sends to this queue?"
            record.args = None
            record.exc_info = record.exc_text = None
        else:
            record.msg, record.args = _one_line(record.getMessage()), None
        if "Cannot connect to" in text or "Connection to broker lost" in text:
            record.levelno, record.levelname = logging.WARNING, "WARNING"
            record.exc_info = record.exc_text = None
        return True


class PythonsWarnings(logging.Filter):
    """What Python's ``warnings`` say, in one line and without the line of source."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Drop what Celery says of a setting that celery_app.py has decided on, at each lost connection."""
        text = record.getMessage()
        if "superuser privileges" in text:
            text = "The worker runs as root, which it need not: run it as another user."
        record.msg, record.args = _one_line(text.rpartition("\n  ")[0] or text), None
        return "CPendingDeprecationWarning" not in text


def _one_line(text: str) -> str:
    return " ".join(text.split())


def as_json(settings: Settings) -> bool:
    """Whether the lines are JSON: in containers, and wherever nobody reads them on a terminal."""
    return settings.log_format == "json" or (settings.log_format == "auto" and not sys.stderr.isatty())


def configure_logging(settings: Settings) -> None:
    """JSON lines in containers, readable lines on a terminal; Celery's own lines go the same way."""
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    last: list[structlog.typing.Processor] = [
        structlog.processors.format_exc_info,
        structlog.processors.JSONRenderer(ensure_ascii=False),
    ]
    if not as_json(settings):
        plain = structlog.dev.plain_traceback
        last = [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(settings.log_level)
    logging.captureWarnings(True)
    # A line a request holds nothing that the line of the call does not.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    logging.getLogger("httpcore").setLevel(logging.WARNING)
    # Celery would log each wake-up twice; what a call did is told by the line of the call.
    logging.getLogger("celery.worker.strategy").setLevel(max(logging.WARNING, root.level))
    logging.getLogger("celery.app.trace").setLevel(max(logging.WARNING, root.level))
    for name, kind in (("celery.worker.consumer.consumer", CelerysLines), ("py.warnings", PythonsWarnings)):
        spoken = logging.getLogger(name)
        if not any(isinstance(known, kind) for known in spoken.filters):
            spoken.addFilter(kind())


def say(text: str, _: Any = None) -> None:
    """One JSON line from a signal handler, where a logger might be in the middle of a line: written in one piece."""
    line = {"event": text.strip(), "level": "info", "logger": "celery", "timestamp": datetime.now(UTC).isoformat()}
    os.write(2, json.dumps(line).encode() + b"\n")


def why_failed(report: CallReport) -> str:
    """Why a call failed, in our own words: those of the API may quote a row. `bunce-attributes status` shows them."""
    match report.verdict:
        case Verdict.RATE_LIMITED:
            return "over the rate limit; all workers wait"
        case Verdict.OUTAGE if report.status:
            return "the API fails; bunce-attributes status shows its words"
        case Verdict.MISCONFIGURED:
            return "the API refuses the key or the address; bunce-attributes status shows its words"
    return report.detail


class CallLog:
    """One line a call; a failed one is a warning, and an error if only somebody can mend it: then the first time."""

    def __init__(self) -> None:
        self._said = ""

    def line(self, report: CallReport) -> None:
        """Tell of one call."""
        fields: dict[str, object] = {
            "rows": report.rows,
            "saved": report.saved,
            "rejected": report.rejected,
            "dead": report.dead,
            "status": report.status,
            "ms": report.milliseconds,
        }
        if report.lost:
            fields["lost"] = True
        if report.verdict in {Verdict.PASSED, Verdict.ANSWERED}:
            self._said = ""
            logger.info("call", **fields)
            return
        loud = report.verdict in _NEEDS_SOMEBODY and report.verdict != self._said
        self._said = report.verdict
        level = logging.ERROR if loud else logging.WARNING
        logger.log(level, "call failed", verdict=report.verdict.value, why=why_failed(report), **fields)
        logger.debug("the API's words", detail=report.detail)


class OnceAMinute:
    """Tells why the queue is not read, but the same reason not each second anew, whatever figures are in it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._next: dict[str, float] = {}

    def line(self, why: str) -> None:
        """Tell, if there is something to tell and it is time."""
        reason = "".join(character for character in why if not character.isdigit())
        if why and self._clock() >= self._next.get(reason, 0.0):
            self._next[reason] = self._clock() + 60
            logger.info("intake waits", why=why)


_call_log = CallLog()
_intake_log = OnceAMinute()


def call_line(report: CallReport) -> None:
    """The line of one call of this process."""
    _call_log.line(report)


def intake_waits(why: str) -> None:
    """The line about a queue that this process does not read now; nothing if ``why`` is empty."""
    _intake_log.line(why)


def calls_lost(number: int) -> None:
    """The line about calls whose worker died, by the one that noticed; nothing if there were none."""
    if number:
        logger.warning("calls were lost with their worker; their rows are sent again", calls=number)
