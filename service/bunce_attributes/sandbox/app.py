"""The sandbox as an ASGI application: the API under `/v1`, its control under `/_sandbox`."""

import asyncio
import time
from collections.abc import Callable
from math import ceil
from typing import Final

from starlette.types import Receive, Scope, Send

from bunce_attributes.sandbox.answers import Reply, Wording, encoded, limited
from bunce_attributes.sandbox.attributes import Attributes
from bunce_attributes.sandbox.attributes_api import AttributesApi
from bunce_attributes.sandbox.calls import CallProcessor, Readable
from bunce_attributes.sandbox.config import API_PREFIX, CONTROL_PREFIX, SandboxConfig
from bunce_attributes.sandbox.control import control_app
from bunce_attributes.sandbox.customers import Customers
from bunce_attributes.sandbox.delivery import ClientGoneError, deliver, read_body
from bunce_attributes.sandbox.fault_state import ActiveFaults
from bunce_attributes.sandbox.faults import Faults
from bunce_attributes.sandbox.journal import HUNG_UP, Call, Journal
from bunce_attributes.sandbox.limits import AddressLimit

_CUSTOMERS_PATH: Final = f"{API_PREFIX}/attributes/customers"
_ATTRIBUTES_PATH: Final = f"{API_PREFIX}/attributes"
_WRONG_TYPE_MESSAGE: Final = "The attributes field is required (Content-Type is not application/json)."
_INSTANT: Final = encoded(
    {"success": True, "data": {"saved": [], "errors": {}}, "message": "Customer attributes successfully updated."}
)


class SandboxApp:
    """One account of the API, in memory.

    Routing is by hand: every benchmark's call goes through here, and two comparisons are all it takes.

    Args:
        config: What does not change while it runs.
        faults: What goes wrong from the start.
        clock: Monotonic seconds.
        wall: Seconds since 1970.
    """

    def __init__(
        self,
        config: SandboxConfig | None = None,
        faults: Faults | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.config = config if config is not None else SandboxConfig()
        self.attributes = Attributes()
        for attribute_id, data_type in self.config.attributes.items():
            self.attributes.put(attribute_id, data_type)
        self.customers = Customers()
        self.journal = Journal(log=self.config.log)
        self.faults = ActiveFaults(faults if faults is not None else Faults(), clock)
        self._clock = clock
        self._wall = wall
        self._limit = AddressLimit(self.config.requests_per_minute, self.config.penalty_seconds, clock)
        self._closing = asyncio.Event()
        self._calls = CallProcessor(self.config, self.attributes, self.customers, self.journal, self._wall, self._pause)
        self._attributes_api = AttributesApi(self.attributes, self._pause)
        self._control = control_app(self)
        self._unseen: list[tuple[Call, bytes]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        if path == _CUSTOMERS_PATH and scope["method"] == "POST":
            await self._post_customers(scope, receive, send)
        elif path.startswith(CONTROL_PREFIX):
            await self._control(scope, receive, send)
        else:
            await self._other(scope, receive, send)

    def set_faults(self, faults: Faults) -> None:
        """Replace all faults; calls that hang without end are let go."""
        self.faults.replaced.set()
        self.faults = ActiveFaults(faults, self._clock)

    def look(self) -> None:
        """Bring what can be read back up to date with the calls of instant mode."""
        unseen, self._unseen = self._unseen, []
        for call, body in unseen:
            self._calls.save_unseen(call, body)

    def close(self) -> None:
        """Let go of everything that waits."""
        self._closing.set()

    async def _post_customers(self, scope: Scope, receive: Receive, send: Send) -> None:
        call = self.journal.begin(self._wall())
        status: int | None = None
        try:
            body = await read_body(receive, self.config.max_body_bytes)
            reply = await self._reply_to_call(call, scope, body)
            status = await deliver(reply, scope, receive, send, self._pause)
        except ClientGoneError:
            pass
        finally:
            self._count(status)
            self.journal.ended(call, status, self._wall())

    async def _reply_to_call(self, call: Call, scope: Scope, body: bytes | None) -> Reply:
        faults = self.faults
        key = _header(scope, b"x-authorization")
        refused_seconds = self._limit.seconds_refused(_address(scope))
        accepted = self.config.accepts(key)
        if self.config.instant and faults.idle and accepted and refused_seconds is None and body is not None:
            self._unseen.append((call, body))
            return _INSTANT

        wording = Wording(faults.faults.shapes, key)
        parsed = self._calls.parse(body) if body is not None else None
        if isinstance(parsed, Readable):
            self.journal.read(call, parsed.read.rows)
        if refused_seconds is not None:
            return limited(wording, ceil(refused_seconds))
        if not accepted:
            return wording.failure(401)
        if parsed is None:
            return wording.failure(413)
        if not _header(scope, b"content-type").lower().startswith("application/json"):
            return wording.failure(422, errors={"attributes": [_WRONG_TYPE_MESSAGE]})
        if not isinstance(parsed, Readable):
            return wording.failure(parsed.status, parsed.message, errors=parsed.errors)
        if not faults.idle:
            await self._pause(faults.latency(), None)
        return await self._calls.reply(call, parsed, wording, faults)

    async def _other(self, scope: Scope, receive: Receive, send: Send) -> None:
        status: int | None = None
        try:
            body = await read_body(receive, self.config.max_body_bytes)
            status = await deliver(await self._reply_to_other(scope, body), scope, receive, send, self._pause)
        except ClientGoneError:
            pass
        finally:
            self._count(status)

    async def _reply_to_other(self, scope: Scope, body: bytes | None) -> Reply:
        faults = self.faults
        key = _header(scope, b"x-authorization")
        wording = Wording(faults.faults.shapes, key)
        refused_seconds = self._limit.seconds_refused(_address(scope))
        if refused_seconds is not None:
            return limited(wording, ceil(refused_seconds))
        if not self.config.accepts(key):
            return wording.failure(401)
        if scope["path"] != _ATTRIBUTES_PATH or scope["method"] not in ("GET", "POST"):
            return wording.failure(404)
        if body is None:
            return wording.failure(413)
        await self._pause(faults.latency(), None)
        return await self._attributes_api.reply(scope, body, wording, faults)

    def _count(self, status: int | None) -> None:
        self.journal.counts.requests[HUNG_UP if status is None else str(status)] += 1

    async def _pause(self, seconds: float | None, until: asyncio.Event | None) -> None:
        if seconds == 0:
            return
        waits = [asyncio.ensure_future(event.wait()) for event in (self._closing, until) if event is not None]
        try:
            await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()


def _address(scope: Scope) -> str:
    client = scope.get("client")
    return client[0] if client else ""


def _header(scope: Scope, wanted: bytes) -> str:
    return next((value.decode("latin-1") for name, value in scope["headers"] if name == wanted), "")
