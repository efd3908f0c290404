"""What the gate goes by: the settings that claim, poll and settle hand to their scripts.

The gate itself lives in Redis (``outbox/lua/_gate.lua``), because whether a call may be made is decided for all
workers together, in the step that takes the rows.
"""

from __future__ import annotations

import json

from bunce_attributes.settings import Settings

BACKOFF_FIRST_MS = 2_000
BACKOFF_LONGEST_MS = 60_000
PROBE_EVERY_MS = 60_000
"""After 401, 403, 404 and unreadable answers: somebody must mend something, and a call a minute finds out."""
LEARNED_SIZE_DOUBLES_MS = 60_000


def gate_settings(settings: Settings) -> str:
    """The settings of gate, limiter and grouping as JSON for the scripts; times in milliseconds."""
    return json.dumps(
        {
            "group": settings.limit_group,
            "per_minute": settings.requests_per_minute,
            "max_calls": settings.max_concurrent_calls,
            "max_rows": settings.batch_max_rows,
            "max_bytes": settings.batch_max_bytes,
            "wait_ms": _ms(settings.batch_max_wait_seconds),
            "lease_ms": _ms(settings.lease_seconds),
            "hold_ms": _ms(settings.unknown_hold_seconds),
            "memory_ms": _ms(settings.remembered_seconds),
            "retry_base_ms": _ms(settings.retry_base_seconds),
            "backoff_ms": BACKOFF_FIRST_MS,
            "backoff_max_ms": BACKOFF_LONGEST_MS,
            "probe_ms": PROBE_EVERY_MS,
            "split_share": settings.split_calls_share,
            "learned_ms": LEARNED_SIZE_DOUBLES_MS,
            "brake_share": settings.brake_share,
            "brake_rows": settings.brake_min_rows,
        }
    )


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
