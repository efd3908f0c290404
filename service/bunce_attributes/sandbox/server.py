"""The application on a socket: uvicorn, taught to hang up."""

import asyncio
import contextlib
import socket
from types import FrameType
from typing import Final

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from bunce_attributes.sandbox.app import SandboxApp
from bunce_attributes.sandbox.config import SandboxError
from bunce_attributes.sandbox.delivery import TRANSPORT_EXTENSION

# Longer than clients keep idle connections, so that it is never we who close one they are about to use.
_KEEP_ALIVE_SECONDS: Final = 120
_SHUTDOWN_SECONDS: Final = 2
_BACKLOG: Final = 1024


class _Protocol(H11Protocol):
    """Tells the application on which transport its request came."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's own
        super().connection_made(transport)
        self.app = _WithTransport(self.app, transport)


class _WithTransport:
    def __init__(self, app: ASGIApp, transport: asyncio.Transport) -> None:
        self._app = app
        self._extensions = {TRANSPORT_EXTENSION: transport}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["extensions"] = self._extensions
        await self._app(scope, receive, send)


class SandboxServer(uvicorn.Server):
    """Serves one sandbox. `should_exit = True`, or SIGTERM in the main thread, ends it without a trace."""

    def __init__(self, app: SandboxApp) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=_Protocol,
                ws="none",
                loop="asyncio",
                lifespan="off",
                interface="asgi3",
                log_config=None,
                log_level="error",
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=_KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
            )
        )
        self._sandbox = app

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 -- the signature of uvicorn's
        # uvicorn raises the signal again when it is done, which would end the process by it; an order to stop that
        # was obeyed is no failure.
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._sandbox.close()
        await super().shutdown(sockets)


def listen(host: str, port: int) -> socket.socket:
    """A listening TCP socket; port 0 takes a free one.

    Raises:
        SandboxError: The address cannot be listened on.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with contextlib.ExitStack() as on_failure:
        # asyncio turns Nagle's algorithm off only where the protocol is named; with it on, every answer of two
        # writes waits 40 ms for the client's delayed acknowledgement.
        listener = on_failure.enter_context(socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP))
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, port))
            listener.listen(_BACKLOG)
        except (OSError, OverflowError) as error:
            raise SandboxError(
                f"The sandbox cannot listen on {host}:{port}: {error}. Give another --port (0 takes a free one)."
            ) from error
        on_failure.pop_all()
        return listener


def root_url(host: str, listener: socket.socket) -> str:
    """Where clients on this machine find the listener."""
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 -- compared, not bound
    port = listener.getsockname()[1]
    return f"http://[{reachable}]:{port}" if ":" in reachable else f"http://{reachable}:{port}"
