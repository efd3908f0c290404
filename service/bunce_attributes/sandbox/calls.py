"""One POST of attribute values, from its bytes to the reply."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any, Final

from bunce_attributes.sandbox.answers import HangUp, Reply, Wording, encoded, spoiled
from bunce_attributes.sandbox.attributes import Attributes
from bunce_attributes.sandbox.config import SandboxConfig
from bunce_attributes.sandbox.customers import Customers
from bunce_attributes.sandbox.fault_state import ActiveFaults
from bunce_attributes.sandbox.faults import AnswerRule, CallRule, HangRule, HangUpRule, MalformedRule, TrickleRule
from bunce_attributes.sandbox.journal import Call, Journal
from bunce_attributes.sandbox.rows import UNKNOWN_ATTRIBUTE_MESSAGE, NamedRow, ReadRows, RowReader, value_problem

Pause = Callable[[float | None, asyncio.Event | None], Awaitable[None]]

_NO_ROWS_MESSAGE: Final = "The attributes field is required."


@dataclass(frozen=True, slots=True)
class Readable:
    """A body that is JSON and holds a list of rows."""

    raw: list[Any]
    read: ReadRows


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A body without rows, and the status and message it gets."""

    status: int
    message: str
    errors: dict[str, list[str]] | None = None


@dataclass(slots=True)
class Verdict:
    """What processing a call comes to: its body, and the rows that are to be saved."""

    body: dict[str, Any]
    errors: dict[int, str] = field(default_factory=dict)


class CallProcessor:
    """Judges calls, saves their rows, and spoils them where a fault says so.

    Args:
        wall: Seconds since 1970.
        pause: Waits so many seconds (None: without end), or until the event is set, or the sandbox stops.
    """

    def __init__(
        self,
        config: SandboxConfig,
        attributes: Attributes,
        customers: Customers,
        journal: Journal,
        wall: Callable[[], float],
        pause: Pause,
    ) -> None:
        self._config = config
        self._attributes = attributes
        self._customers = customers
        self._journal = journal
        self._wall = wall
        self._pause = pause
        self._reader = RowReader()

    def parse(self, body: bytes) -> Readable | Unreadable:
        """Read the body by the rules for rows."""
        try:
            payload = json.loads(body)
        except (ValueError, RecursionError):
            return Unreadable(400, "The request body is not valid JSON.")
        if not isinstance(payload, dict):
            return Unreadable(400, "The request body must be a JSON object.")
        raw = payload.get("attributes")
        if not isinstance(raw, list) or not raw:
            return Unreadable(422, "The given data was invalid.", {"attributes": [_NO_ROWS_MESSAGE]})
        return Readable(raw, self._reader.read(raw))

    async def reply(self, call: Call, parsed: Readable, wording: Wording, faults: ActiveFaults) -> Reply:
        """Process a call, or do with it what a fault says."""
        read = parsed.read
        if self._config.max_rows is not None and len(read.rows) > self._config.max_rows:
            return wording.failure(413)
        rule = None if faults.idle else faults.rule_for("customers", read.rows)
        if rule is not None:
            call.fault = rule.do
            return await self._spoil(rule, call, parsed, wording, faults)
        if not read.valid:
            return wording.invalid(read)
        verdict = self._judge(call, parsed, wording, faults)
        self._save(call, read, verdict)
        return encoded(verdict.body)

    def save_unseen(self, call: Call, body: bytes) -> None:
        """Save what a call in instant mode brought, unless a row breaks a rule; it was answered long ago."""
        parsed = self.parse(body)
        if isinstance(parsed, Readable):
            self._journal.read(call, parsed.read.rows)
            if parsed.read.valid:
                self._attributes.create_missing({row.attribute_id for row in parsed.read.rows})
                self._save(call, parsed.read, Verdict({}), at=call.received_at)

    async def _spoil(
        self, rule: CallRule, call: Call, parsed: Readable, wording: Wording, faults: ActiveFaults
    ) -> Reply:
        read = parsed.read
        plan = _plan(rule)
        ordinary = wording.invalid(read)
        verdict: Verdict | None = None
        if read.valid and plan.needs_verdict:
            verdict = self._judge(call, parsed, wording, faults)
            ordinary = encoded(verdict.body)
            if rule.save_after_seconds is not None:
                self._save_later(rule.save_after_seconds, call, read, verdict)
        if isinstance(rule, HangRule):
            await self._pause(rule.seconds, faults.replaced if rule.seconds is None else None)
        if verdict is not None and plan.saves:
            self._save(call, read, verdict)
        match rule:
            case HangUpRule(reset=reset):
                return HangUp(reset=reset)
            case HangRule():
                return ordinary if plan.saves else HangUp()
            case AnswerRule() if not read.valid and plan.answers_ordinarily:
                return ordinary
            case AnswerRule():
                return wording.on_demand(rule, read.rows, ordinary)
            case MalformedRule(kind=kind):
                return spoiled(kind, verdict.body, len(read.rows)) if verdict is not None else ordinary
            case TrickleRule(seconds=seconds):
                return replace(ordinary, trickle_seconds=seconds)

    def _judge(self, call: Call, parsed: Readable, wording: Wording, faults: ActiveFaults) -> Verdict:
        rows = parsed.read.rows
        if not self._config.strict_attributes:
            self._attributes.create_missing({row.attribute_id for row in rows})
        errors: dict[int, str] = {}
        if self._attributes.any_typed or self._config.strict_attributes or faults.refuses_rows:
            for index, row in enumerate(rows):
                problem = self._problem(row, faults)
                if problem is not None:
                    errors[index] = problem
        call.errors = tuple(errors)
        self._journal.counts.rows_refused += len(errors)
        return Verdict(wording.processed(parsed.raw, errors), errors)

    def _problem(self, row: NamedRow, faults: ActiveFaults) -> str | None:
        attribute = self._attributes.get(row.attribute_id)
        if attribute is None:
            return UNKNOWN_ATTRIBUTE_MESSAGE
        return value_problem(attribute.data_type, row.value) or (faults.refusal(row) if faults.refuses_rows else None)

    def _save(self, call: Call, read: ReadRows, verdict: Verdict, *, at: float | None = None) -> None:
        errors = verdict.errors
        customers = self._customers
        for index, row in enumerate(read.rows):
            if index in errors:
                continue
            if index in read.customers:
                customers.edit(row, read.customers[index])
            customers.set_value(row)
        self._journal.applied(call, len(read.rows) - len(errors), self._wall() if at is None else at)

    def _save_later(self, seconds: float, call: Call, read: ReadRows, verdict: Verdict) -> None:
        if seconds == 0:
            self._save(call, read, verdict)
        else:
            asyncio.get_running_loop().call_later(seconds, self._save, call, read, verdict)


@dataclass(frozen=True, slots=True)
class _Plan:
    """What a rule does with the rows: save them before it answers, or judge them for the body at least."""

    saves: bool
    answers_ordinarily: bool
    needs_verdict: bool


def _plan(rule: CallRule) -> _Plan:
    processes = isinstance(rule, MalformedRule | TrickleRule)
    answers_ordinarily = processes or (isinstance(rule, AnswerRule) and rule.status < 300)
    late = rule.save_after_seconds is not None
    saves = rule.save if rule.save is not None else processes and not late
    return _Plan(saves, answers_ordinarily, needs_verdict=saves or late or answers_ordinarily)
