"""Requests in and replies out over ASGI, the rude ones included."""

import asyncio
import socket
import struct
from typing import Final

from starlette.types import Receive, Scope, Send

from bunce_attributes.sandbox.answers import Answer, HangUp, Reply
from bunce_attributes.sandbox.calls import Pause

# ASGI has no word for "close the connection"; our server puts the transport here.
TRANSPORT_EXTENSION: Final = "bunce_attributes.sandbox.transport"

_TRICKLE_STEP_SECONDS: Final = 0.05


class ClientGoneError(Exception):
    """The client left before its request was complete."""


class HungUpError(Exception):
    """The application hung up, and it runs without a connection that could be closed (in a test)."""


async def read_body(receive: Receive, max_bytes: int) -> bytes | None:
    """The whole body; None if it is larger than `max_bytes` (it is read to its end all the same).

    Raises:
        ClientGoneError: The client left.
    """
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body", False):
        body: bytes = message.get("body", b"")
        return body if len(body) <= max_bytes else None
    parts: list[bytes] = []
    size = 0
    while message["type"] == "http.request":
        part: bytes = message.get("body", b"")
        size += len(part)
        if size <= max_bytes:
            parts.append(part)
        else:
            parts.clear()
        if not message.get("more_body", False):
            return b"".join(parts) if size <= max_bytes else None
        message = await receive()
    raise ClientGoneError


async def deliver(reply: Reply, scope: Scope, receive: Receive, send: Send, pause: Pause) -> int | None:
    """Send a reply in its own manner; returns the status, or None when it closed the connection instead.

    Raises:
        HungUpError: There is no connection to close.
    """
    match reply:
        case HangUp(reset=reset):
            await _close(scope, receive, reset=reset)
            return None
        case Answer():
            await send(
                {
                    "type": "http.response.start",
                    "status": reply.status,
                    "headers": _headers(reply),
                }
            )
            if reply.cut:
                await send(
                    {"type": "http.response.body", "body": reply.body[: len(reply.body) // 2], "more_body": True}
                )
                await _close(scope, receive, reset=False)
                return reply.status
            if reply.trickle_seconds > 0:
                await _trickle(reply, send, pause)
            else:
                await send({"type": "http.response.body", "body": reply.body})
            return reply.status


def _headers(answer: Answer) -> list[tuple[bytes, bytes]]:
    if answer.status == 204:
        return list(answer.headers)
    return [*answer.headers, (b"content-length", str(len(answer.body)).encode())]


async def _trickle(answer: Answer, send: Send, pause: Pause) -> None:
    body = answer.body
    steps = max(1, min(len(body), int(answer.trickle_seconds / _TRICKLE_STEP_SECONDS)))
    for step in range(steps):
        await pause(answer.trickle_seconds / steps, None)
        piece = body[len(body) * step // steps : len(body) * (step + 1) // steps]
        await send({"type": "http.response.body", "body": piece, "more_body": step < steps - 1})


async def _close(scope: Scope, receive: Receive, *, reset: bool) -> None:
    transport = scope.get("extensions", {}).get(TRANSPORT_EXTENSION)
    if not isinstance(transport, asyncio.Transport):
        raise HungUpError("The sandbox hung up.")
    if reset:
        # Lingering zero seconds makes the kernel send RST instead of FIN.
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    else:
        transport.close()
    # To return before the server has noticed would make it write an answer of its own.
    while (await receive())["type"] != "http.disconnect":
        pass
