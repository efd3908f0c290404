"""The two wake-up tasks. They have no arguments: all state is in Redis, and no personal data can show."""

from __future__ import annotations

from typing import Any

import redis
from celery import Celery
from kombu.exceptions import OperationalError

from bunce_attributes.connections import explain
from bunce_attributes.decisions import Verdict
from bunce_attributes.delivery import NoCall
from bunce_attributes.outbox.outbox import Work
from bunce_attributes.settings import Settings
from bunce_attributes.worker.celery_app import DELIVER_TASK, INTAKE_TASK
from bunce_attributes.worker.events import MessageEvents, OneLineRequest
from bunce_attributes.worker.logs import call_line, logger, why_failed
from bunce_attributes.worker.runtime import runtime
from bunce_attributes.worker.wakeups import WakeUps, new_tokens


class CallFailed(Exception):  # noqa: N818 - Flower shows the name: the call failed
    """A call that failed as a whole; its rows wait unharmed. Raised so that Flower shows a failure."""


def register_tasks(app: Celery, settings: Settings) -> None:
    """Give an application its two tasks."""
    wakeups = WakeUps(app, settings.namespace)

    def go_on(work: Work) -> None:
        """Send the next wake-ups at once; those that cannot be sent are left to the dispatchers."""
        outbox = runtime(settings).outbox
        if work.piled_up:
            # Nobody takes what lies in the work queue; the dispatchers go on by themselves.
            for token in work.call_tokens:
                outbox.give_up_wakeup(token)
            outbox.give_up_intake_wakeup()
            return
        for token in work.call_tokens:
            try:
                wakeups.deliver(token)
            except OperationalError:
                outbox.give_up_wakeup(token)
        if work.intake:
            try:
                wakeups.intake()
            except OperationalError:
                outbox.give_up_intake_wakeup()

    @app.task(name=DELIVER_TASK, bind=True, throws=(CallFailed,), Request=OneLineRequest)
    def deliver(self: Any) -> dict[str, Any]:
        here = runtime(settings)
        if here.stopping.is_set():
            return {"sent": 0, "why": "the worker is stopping"}
        try:
            report = here.delivery.deliver(self.request.id, new_tokens(settings.max_concurrent_calls))
        except redis.RedisError as error:
            reason = explain(error, settings.redis_url)
            logger.warning("call not settled", reason=reason)
            raise CallFailed(f"{reason}. The rows come back when the lease ends.") from None
        if isinstance(report, NoCall):
            return {"sent": 0, "why": report.why}
        call_line(report)
        if not here.stopping.is_set():
            go_on(report.work)
        if report.verdict not in {Verdict.PASSED, Verdict.ANSWERED}:
            raise CallFailed(
                f"{report.rows} rows, HTTP {report.status}, {report.milliseconds} ms: {why_failed(report)}"
            )
        return {
            "sent": report.rows,
            "saved": report.saved,
            "rejected": report.rejected,
            "dead": report.dead,
            "status": report.status,
            "ms": report.milliseconds,
        }

    @app.task(name=INTAKE_TASK, bind=True, throws=(CallFailed,), Request=OneLineRequest)
    def intake(self: Any) -> dict[str, Any]:
        here = runtime(settings)
        tell = MessageEvents(app, self.request.hostname).tell if settings.message_events else None
        try:
            result = here.intake.run(tell=tell)
            go_on(here.outbox.poll(new_tokens(settings.max_concurrent_calls)))
        except redis.RedisError as error:
            reason = explain(error, settings.redis_url)
            logger.warning("intake ended", reason=reason)
            raise CallFailed(f"{reason}. The messages stay in the queue.") from None
        if result.refused:
            logger.info("intake waits", why=result.refused)
        return {
            "messages": result.messages,
            "received": result.received,
            "accepted": result.accepted,
            "superseded": result.superseded,
            "invalid": result.invalid,
        }
