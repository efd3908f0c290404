"""The two wake-up tasks. They have no arguments: all state is in Redis, and no personal data can show."""

from __future__ import annotations

from typing import Any

import redis
from celery import Celery

from bunce_attributes.connections import explain
from bunce_attributes.decisions import Verdict
from bunce_attributes.delivery import NoCall
from bunce_attributes.outbox.outbox import Work
from bunce_attributes.settings import Settings
from bunce_attributes.worker.celery_app import DELIVER_TASK, INTAKE_TASK
from bunce_attributes.worker.events import MessageEvents, OneLineRequest
from bunce_attributes.worker.logs import call_line, calls_lost, intake_waits, logger, why_failed
from bunce_attributes.worker.runtime import Runtime, runtime
from bunce_attributes.worker.wakeups import new_tokens


class CallFailed(Exception):  # noqa: N818 - Flower shows the name: the call failed
    """A call that failed as a whole; its rows wait unharmed. Raised so that Flower shows a failure."""


def register_tasks(app: Celery, settings: Settings) -> None:
    """Give an application its two tasks."""

    def go_on(here: Runtime, work: Work) -> None:
        """Send the next wake-ups at once; those that cannot be sent are left to the dispatchers."""
        calls_lost(work.calls_lost)
        if here.stopping.is_set():
            here.wakeups.give_up(work)
        else:
            here.wakeups.send(work)

    @app.task(name=DELIVER_TASK, bind=True, throws=(CallFailed,), Request=OneLineRequest)
    def deliver(self: Any) -> dict[str, Any]:
        here = runtime(settings)
        if here.stopping.is_set():
            # Another worker may have the slot at once.
            here.outbox.give_up_wakeup(self.request.id)
            return {"sent": 0, "why": "the worker is stopping"}
        try:
            report = here.delivery.deliver(self.request.id, new_tokens(settings.max_concurrent_calls))
        except redis.RedisError as error:
            reason = explain(error, settings.redis_url)
            logger.warning("call not noted; its rows come back when its lease ends", reason=reason)
            raise CallFailed(f"{reason}. The rows come back when the lease ends.") from None
        if isinstance(report, NoCall):
            return {"sent": 0, "why": report.why}
        call_line(report)
        go_on(here, report.work)
        if report.verdict not in {Verdict.PASSED, Verdict.ANSWERED}:
            raise CallFailed(
                f"{report.rows} rows, HTTP {report.status}, {report.milliseconds} ms: {why_failed(report)}"
            )
        return {
            "sent": report.rows,
            "ms": report.milliseconds,
            "saved": report.saved,
            "rejected": report.rejected,
            "dead": report.dead,
            "status": report.status,
        }

    @app.task(name=INTAKE_TASK, bind=True, throws=(CallFailed,), Request=OneLineRequest)
    def intake(self: Any) -> dict[str, Any]:
        here = runtime(settings)
        tell = MessageEvents(app, self.request.hostname).tell if settings.message_events else None
        try:
            result = here.intake.run(tell=tell)
            go_on(here, here.outbox.poll(new_tokens(settings.max_concurrent_calls)))
        except redis.RedisError as error:
            reason = explain(error, settings.redis_url)
            logger.warning("intake stopped; the messages stay in the queue", reason=reason)
            raise CallFailed(f"{reason}. The messages stay in the queue.") from None
        intake_waits(result.refused)
        return {
            "messages": result.messages,
            "received": result.received,
            "accepted": result.accepted,
            "superseded": result.superseded,
            "invalid": result.invalid,
        }
