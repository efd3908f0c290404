"""`/_sandbox`: reading back what the sandbox holds and saw, and setting its faults. No key, no limit."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import asdict
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route

from bunce_attributes.sandbox.answers import encode_json
from bunce_attributes.sandbox.config import CONTROL_PREFIX, SandboxError
from bunce_attributes.sandbox.customers import Customers
from bunce_attributes.sandbox.faults import Faults, parse_faults

if TYPE_CHECKING:
    from bunce_attributes.sandbox.app import SandboxApp

MAX_CALLS: Final = 1_000
MAX_SENDS: Final = 20_000

# So many values are written between two chances for the API to answer: a few milliseconds' worth.
_VALUES_PER_CHUNK: Final = 1_000


def control_app(app: "SandboxApp") -> Starlette:
    """The control of one sandbox."""
    control = _Control(app)
    routes = [
        Route("/values", control.values, methods=["GET"]),
        Route("/customers/{identity:path}", control.customer, methods=["GET"]),
        Route("/stats", control.stats, methods=["GET"]),
        Route("/calls", control.calls, methods=["GET"]),
        Route("/sends", control.sends, methods=["GET"]),
        Route("/faults", control.faults, methods=["GET", "PUT", "DELETE"]),
        Route("/attributes/{attribute_id}", control.attribute, methods=["PUT"]),
    ]
    return Starlette(routes=[Mount(CONTROL_PREFIX, routes=routes)], exception_handlers={SandboxError: _as_bad_request})


async def _as_bad_request(_: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, status_code=400)


class _Control:
    def __init__(self, app: "SandboxApp") -> None:
        self._app = app

    async def values(self, _: Request) -> Response:
        self._app.look()
        return StreamingResponse(_json_list(_values(self._app.customers)), media_type="application/json")

    async def customer(self, request: Request) -> Response:
        self._app.look()
        customer = self._app.customers.find(request.path_params["identity"])
        if customer is None:
            return JSONResponse({"error": "No customer has this customer_id or email."}, status_code=404)
        return JSONResponse(customer.as_json())

    async def stats(self, _: Request) -> Response:
        self._app.look()
        customers = self._app.customers
        return JSONResponse(
            {
                **self._app.journal.counts.as_json(),
                "customers": len(customers),
                "values": sum(len(customer.values) for customer in customers),
            }
        )

    async def calls(self, request: Request) -> Response:
        self._need_log()
        self._app.look()
        page = self._app.journal.calls(
            after=_number(request, "after", 0),
            limit=min(_number(request, "limit", MAX_CALLS), MAX_CALLS),
            with_rows=_number(request, "rows", 1) != 0,
        )
        return JSONResponse(page)

    async def sends(self, request: Request) -> Response:
        self._need_log()
        self._app.look()
        page = self._app.journal.sends(
            after=_number(request, "after", 0), limit=min(_number(request, "limit", MAX_SENDS), MAX_SENDS)
        )
        return JSONResponse(page)

    async def faults(self, request: Request) -> Response:
        if request.method == "PUT":
            self._app.set_faults(parse_faults(await request.body()))
        elif request.method == "DELETE":
            self._app.set_faults(Faults())
        return JSONResponse(self._app.faults.as_json())

    async def attribute(self, request: Request) -> Response:
        try:
            given = await request.json()
        except ValueError as error:
            raise SandboxError("The body is not JSON: give an object with data_type, and name if you like.") from error
        if not isinstance(given, dict):
            raise SandboxError("The body is no JSON object: give one with data_type, and name if you like.")
        data_type, name = given.get("data_type"), given.get("name")
        attribute = self._app.attributes.put(
            request.path_params["attribute_id"], str(data_type), str(name) if name is not None else None
        )
        return JSONResponse(asdict(attribute))

    def _need_log(self) -> None:
        if not self._app.config.log:
            raise SandboxError("The call log is off: start the sandbox without --no-log.")


def _values(customers: Customers) -> Iterator[dict[str, Any]]:
    for customer in customers:
        kind = "customer_id" if customer.customer_id is not None else "customer_email"
        identity = customer.customer_id if customer.customer_id is not None else customer.email
        for attribute_id, value in list(customer.values.items()):
            yield {
                "id": attribute_id,
                "identity_kind": kind,
                "identity": identity,
                "value": value,
                "customer_id": customer.customer_id,
                "customer_email": customer.email,
            }


async def _json_list(items: Iterator[dict[str, Any]]) -> AsyncIterator[str]:
    before = "["
    while chunk := list(islice(items, _VALUES_PER_CHUNK)):
        yield before + encode_json(chunk)[1:-1]
        before = ","
        await asyncio.sleep(0)
    yield "[]" if before == "[" else "]"


def _number(request: Request, name: str, default: int) -> int:
    text = request.query_params.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise SandboxError(f"{name}={text}: give a whole number of 0 or more.")
    return int(text)
