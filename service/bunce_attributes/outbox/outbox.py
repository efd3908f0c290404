"""The outbox: typed verbs over the Lua scripts. Every change is one script, so that a worker may die at any line.

Errors: redis-py's own (``redis.exceptions``); nothing is retried here, because a repeated claim would take twice.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import redis

from bunce_attributes.decisions import CallHistory, ClaimedRow, RowAction, Settlement
from bunce_attributes.gate import gate_settings
from bunce_attributes.outbox.keys import producer_lists, work_queue
from bunce_attributes.outbox.scripts import Script, source
from bunce_attributes.outcomes import TakenMessage
from bunce_attributes.settings import Settings
from bunce_attributes.updates import DIGEST_BYTES

WAKE_UP_HOLDS_MS = 10_000
"""How long a slot waits for its wake-up: longer than a busy worker needs, short enough for one that was lost."""


@dataclass(frozen=True, slots=True)
class ClaimedCall:
    """Rows that are this worker's until the lease ends."""

    id: str
    rows: tuple[ClaimedRow, ...]
    history: CallHistory
    probe: bool


@dataclass(frozen=True, slots=True)
class NoSlot:
    """As many calls as allowed are running."""


@dataclass(frozen=True, slots=True)
class GateClosed:
    """No call may be made now; look again after ``wait_seconds`` (never, if negative: an operator paused)."""

    wait_seconds: float
    reason: str


@dataclass(frozen=True, slots=True)
class NothingDue:
    """No call is due; one will be after ``wait_seconds`` (negative: nothing waits)."""

    wait_seconds: float


Claim = ClaimedCall | NoSlot | GateClosed | NothingDue


@dataclass(frozen=True, slots=True)
class Settled:
    """How many rows of the call ended how."""

    saved: int
    retried: int
    dead: int
    superseded: int
    released: int


@dataclass(frozen=True, slots=True)
class LeaseLost:
    """The lease had ended and the rows were given back: the answer changes nothing."""


@dataclass(frozen=True, slots=True)
class Work:
    """What there is to do: whether the queue wants reading, slots reserved for calls, seconds until more.

    ``piled_up``: wake-ups lie in the work queue that nobody takes; a further one would only lie on top of them.
    ``calls_lost``: calls whose worker died, and whose rows were given back just now.
    """

    intake: bool
    call_tokens: tuple[str, ...]
    next_seconds: float
    piled_up: bool = False
    calls_lost: int = 0


@dataclass(frozen=True, slots=True)
class ClaimedMessages:
    """Messages at the end of ``source``, oldest first; of the first one ``cursor`` rows were taken before."""

    source: bytes
    cursor: int
    messages: tuple[bytes, ...]
    now_us: int


@dataclass(frozen=True, slots=True)
class IntakeBusy:
    """Another worker reads the queue; its lease ends in ``wait_seconds``."""

    wait_seconds: float


@dataclass(frozen=True, slots=True)
class QueueEmpty:
    """There is no message."""


@dataclass(slots=True)
class IntakeBatch:
    """What one accept writes: encoded rows, dead letters, and which messages leave the queue with them."""

    rows: list[bytes] = field(default_factory=list)
    invalid: list[bytes] = field(default_factory=list)
    dead_messages: list[tuple[int, bytes]] = field(default_factory=list)
    scheduled: list[tuple[int, float]] = field(default_factory=list)
    invalid_after: list[int] = field(default_factory=list)
    """For each invalid row how many rows, invalid rows and dead messages stood before it: its place in the order."""
    dead_after: list[int] = field(default_factory=list)
    """The same for each dead message."""
    taken: list[TakenMessage] = field(default_factory=list)
    """What became of the forgotten messages; only for display."""
    forget: int = 0
    cursor: int = 0

    @property
    def length(self) -> int:
        """How many rows, invalid rows and dead messages there are."""
        return len(self.rows) + len(self.invalid) + len(self.dead_messages)


@dataclass(frozen=True, slots=True)
class Accepted:
    """Rows that wait now, and rows that a newer value had already overtaken."""

    accepted: int
    superseded: int


class Outbox:
    """One namespace of one Redis, through one client.

    Args:
        client: returns bytes; must not retry commands by itself.
        now_ms: a clock for tests; by default every script reads Redis' clock.
    """

    def __init__(self, client: redis.Redis, settings: Settings, now_ms: int = 0) -> None:
        self.client = client
        self.namespace = settings.namespace
        self.now_ms = now_ms
        self._gate = gate_settings(settings)
        self.memory_ms = round(settings.remembered_seconds * 1000)
        self._hold_ms = round(settings.unknown_hold_seconds * 1000)
        self._producer_lists = producer_lists(settings.namespace)
        self._most_wakeups = settings.max_concurrent_calls + 2
        self._scripts = {
            script: client.register_script(source(script))
            for script in (
                Script.INTAKE_CLAIM,
                Script.INTAKE_ACCEPT,
                Script.INTAKE_RELEASE,
                Script.POLL,
                Script.CLAIM,
                Script.SETTLE,
                Script.PERMIT,
                Script.STATUS,
                Script.PAUSE,
                Script.RESUME,
            )
        }

    def run(self, script: Script, *args: str | bytes | int | float) -> Any:
        """One script of this namespace; its clock and its arguments follow."""
        return self._scripts[script](keys=[self.namespace], args=[self.now_ms, *args])

    def _run_together(self, *scripts: tuple[Script, list[str | bytes | int | float]]) -> list[Any]:
        """Scripts one after the other in one round trip; redis-py's own way would first ask whether Redis has them."""
        pipeline = self.client.pipeline(transaction=False)
        for script, args in scripts:
            pipeline.evalsha(self._scripts[script].sha, 1, self.namespace, self.now_ms, *args)
        replies = pipeline.execute(raise_on_error=False)
        for number, (script, args) in enumerate(scripts):
            if isinstance(replies[number], redis.exceptions.NoScriptError):
                # A Redis that was restarted has forgotten its scripts; this teaches it.
                replies[number] = self.run(script, *args)
            elif isinstance(replies[number], Exception):
                raise replies[number]
        return replies

    # -- the queue ---------------------------------------------------------------------------------------------

    def claim_messages(
        self, token: str, *, lease_ms: int, most_messages: int, most_bytes: int, largest: int
    ) -> ClaimedMessages | IntakeBusy | QueueEmpty:
        """Claim the oldest messages of the queue, or renew the claim that ``token`` has."""
        reply = self.run(
            Script.INTAKE_CLAIM, token, lease_ms, most_messages, most_bytes, largest, *self._producer_lists
        )
        match reply[0]:
            case b"busy":
                return IntakeBusy(int(reply[1]) / 1000)
            case b"empty":
                return QueueEmpty()
        return ClaimedMessages(reply[2], int(reply[3]), tuple(reply[4:]), int(reply[1]))

    def accept(self, token: str, source_list: bytes, batch: IntakeBatch, *, lease_ms: int) -> Accepted | LeaseLost:
        """Write a batch to the outbox and forget its messages, in one step."""
        args: list[str | bytes | int | float] = [
            token,
            source_list,
            batch.forget,
            batch.cursor,
            lease_ms,
            self.memory_ms,
            len(batch.rows),
            len(batch.invalid),
            len(batch.dead_messages),
            len(batch.scheduled),
            struct.pack(f">{len(batch.rows)}I", *map(len, batch.rows)),
            b"".join(batch.rows),
            struct.pack(f">{len(batch.invalid) + len(batch.dead_messages)}I", *batch.invalid_after, *batch.dead_after),
            *batch.invalid,
        ]
        for number, members in batch.dead_messages:
            args += (number, members)
        for number, due_ms in batch.scheduled:
            args += (number, due_ms)
        reply = self.run(Script.INTAKE_ACCEPT, *args)
        if reply[0] == b"lost":
            return LeaseLost()
        return Accepted(int(reply[1]), int(reply[2]))

    def release_messages(self, token: str, *, wait_seconds: float = 0.0, why: str = "") -> None:
        """End the lease on the queue; look at it again after ``wait_seconds``, because of ``why``."""
        self.run(Script.INTAKE_RELEASE, token, round(wait_seconds * 1000), why)

    def waiting(self) -> int:
        """How many rows wait in the outbox, those in calls included."""
        pipeline = self.client.pipeline(transaction=False)
        pipeline.hlen(f"{self.namespace}:rows")
        pipeline.hlen(f"{self.namespace}:inflight")
        return sum(int(count) for count in pipeline.execute())

    # -- calls -------------------------------------------------------------------------------------------------

    def poll(self, tokens: Iterable[str], *, intake: bool = True) -> Work:
        """What there is to do; the first tokens of the result hold a slot each until their wake-up comes."""
        tokens = list(tokens)
        return self._work(self.run(Script.POLL, *self._poll_arguments(tokens, intake=intake)), tokens)

    def _poll_arguments(self, tokens: list[str], *, intake: bool) -> list[str | bytes | int | float]:
        return [
            self._gate,
            WAKE_UP_HOLDS_MS,
            self._most_wakeups,
            work_queue(self.namespace),
            int(intake),
            len(self._producer_lists),
            *self._producer_lists,
            *tokens,
        ]

    @staticmethod
    def _work(reply: Any, tokens: list[str]) -> Work:
        intake, reserved, next_ms, piled_up, lost = (int(part) for part in reply)
        return Work(bool(intake), tuple(tokens[:reserved]), next_ms / 1000, bool(piled_up), lost)

    def claim_call(self, call_id: str, token: str) -> Claim:
        """Permit, slot and rows for one call, in one step.

        Args:
            call_id: unique to this execution.
            token: of the wake-up, whose reserved slot it takes.
        """
        reply = self.run(Script.CLAIM, call_id, token, self._gate)
        match reply[0]:
            case b"no_slot":
                return NoSlot()
            case b"wait":
                return GateClosed(int(reply[1]) / 1000, reply[2].decode())
            case b"empty":
                return NothingDue(int(reply[1]) / 1000)
        meta = json.loads(reply[1])
        bodies = reply[4].split(b"\n")
        attempts = struct.unpack(f">{len(bodies)}H", reply[3])
        digests = (reply[2][at : at + DIGEST_BYTES] for at in range(0, len(reply[2]), DIGEST_BYTES))
        rows = tuple(map(ClaimedRow, digests, attempts, bodies))
        history = CallHistory(
            failures=int(meta["fails"]),
            others_passed=int(meta["ok"]) > int(meta["mark"]) >= 0,
            others_fail=int(meta["troubled"]) > 1,
        )
        return ClaimedCall(call_id, rows, history, bool(meta["probe"]))

    def settle(
        self, call_id: str, settlement: Settlement, counters: Mapping[str, int], tokens: Iterable[str] = ()
    ) -> tuple[Settled | LeaseLost, Work]:
        """Apply a settlement; in the same round trip, see what there is to do next."""
        tokens = list(tokens)
        reply, work = self._run_together(
            (Script.SETTLE, self._settle_arguments(call_id, settlement, counters)),
            (Script.POLL, self._poll_arguments(tokens, intake=True)),
        )
        settled = LeaseLost() if reply[0] == b"gone" else Settled(*(int(n) for n in reply[1:]))
        return settled, self._work(work, tokens)

    def _settle_arguments(
        self, call_id: str, settlement: Settlement, counters: Mapping[str, int]
    ) -> list[str | bytes | int | float]:
        retry_after = settlement.retry_after_seconds
        verdict = {
            "kind": settlement.verdict.value,
            "detail": settlement.detail,
            "at_once": settlement.at_once,
            **({} if retry_after is None else {"retry_after_ms": round(retry_after * 1000)}),
        }
        args: list[str | bytes | int | float] = [
            call_id,
            self._gate,
            json.dumps(verdict),
            settlement.rest.value,
            self._hold_ms if settlement.hold else 0,
            round(settlement.group_delay_seconds * 1000),
            int(settlement.learn_size),
            len(settlement.named),
            len(counters),
        ]
        for row in settlement.named:
            attempt = json.dumps({"status": row.status, "message": row.message}, ensure_ascii=False)[1:-1]
            delay_ms = round(row.delay_seconds * 1000) if row.action is not RowAction.DEAD else 0
            args += (
                row.digest,
                row.action.value,
                delay_ms,
                _utf8(attempt),
                row.reason_class.value,
                _utf8(json.dumps(row.reason, ensure_ascii=False)),
            )
        for name, delta in counters.items():
            args += (name, delta)
        return args

    def give_up_wakeup(self, token: str) -> None:
        """Free the slot of a wake-up that could not be sent."""
        self.client.zrem(f"{self.namespace}:wakeups", token)

    def give_up_intake_wakeup(self) -> None:
        """The same for the wake-up of the intake."""
        self.client.hdel(f"{self.namespace}:intake", "wakeup_until")

    # -- the operator --------------------------------------------------------------------------------------------

    def take_permit(self, request_id: str) -> float:
        """A permit for a request without rows; seconds to wait, 0 if it was taken."""
        return int(self.run(Script.PERMIT, request_id, self._gate)) / 1000

    def status(self) -> dict[str, Any]:
        """The figures of the namespace as the script gives them (``lua/status.lua``)."""
        reply = self.run(Script.STATUS, self._gate, *self._producer_lists)
        return cast(dict[str, Any], json.loads(reply))

    def pause(self, attribute: str = "") -> bool:
        """Pause everything, or one attribute; whether that changed anything."""
        return bool(self.run(Script.PAUSE, attribute))

    def resume(self, attribute: str = "", *, bury: bool = False) -> bool:
        """End a pause; whether that changed anything.

        Args:
            attribute: the attribute whose rows go on; empty: the pause of everything.
            bury: switch the brake off for this attribute for a day, so that refused rows may become dead letters.
        """
        changed = False
        while True:
            did, moved, left = self.run(Script.RESUME, attribute, int(bury))
            changed = changed or bool(did) or bool(moved)
            if not left:
                return changed


def _utf8(text: str) -> bytes:
    # A server may answer with half a surrogate pair as \ud800, which JSON allows and UTF-8 does not.
    return text.encode("utf-8", errors="replace")
