"""Logging of the service: one line a call, no row and no key in any line."""

from __future__ import annotations

import logging
import sys

import structlog

from bunce_attributes.decisions import Verdict
from bunce_attributes.delivery import CallReport
from bunce_attributes.settings import Settings

logger = structlog.stdlib.get_logger("bunce_attributes")


def configure_logging(settings: Settings) -> None:
    """JSON lines in containers, readable lines on a terminal; Celery's own lines go the same way."""
    as_json = settings.log_format == "json" or (settings.log_format == "auto" and not sys.stderr.isatty())
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
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer(ensure_ascii=False) if as_json else structlog.dev.ConsoleRenderer()
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                renderer,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(settings.log_level)
    # One line a request and, for unknown messages, their bodies: neither belongs into a log.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    logging.getLogger("httpcore").setLevel(logging.WARNING)
    # Celery would log each wake-up twice; what a call did is told by the line of the call.
    logging.getLogger("celery.worker.strategy").setLevel(max(logging.WARNING, root.level))
    logging.getLogger("celery.app.trace").setLevel(max(logging.WARNING, root.level))


def call_line(report: CallReport) -> None:
    """One line for a call; a failed one is a warning."""
    quiet = report.verdict in {Verdict.PASSED, Verdict.ANSWERED}
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
    if quiet:
        logger.info("call", **fields)
    else:
        logger.warning("call failed", verdict=report.verdict.value, detail=report.detail, **fields)
