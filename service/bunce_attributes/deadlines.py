"""One deadline for a whole HTTP request, from name look-up to the last byte of the answer.

httpx' own time limits are for each phase and each piece, so a server that sends a byte now and then would hold a call
for ever. Here every wait of a request ends at the same moment. It needs no event loop: a call is made in the thread
that wants it, at a third of the price.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Iterable, Iterator
from queue import Empty, SimpleQueue
from typing import Any
from urllib.request import getproxies, proxy_bypass

import httpcore
import httpx

WRITE_BYTES = 65_536
"""Written at once; the time left is looked at in between."""
_REASONS = {
    getattr(httpcore, name): getattr(httpx, name)
    for name in (
        "ConnectTimeout",
        "ReadTimeout",
        "WriteTimeout",
        "PoolTimeout",
        "ConnectError",
        "ReadError",
        "WriteError",
        "LocalProtocolError",
        "RemoteProtocolError",
        "ProxyError",
        "UnsupportedProtocol",
    )
}


class _Deadline(threading.local):
    """When the request of this thread must be over; monotonic seconds."""

    ends = 0.0

    def left(self, too_late: type[Exception]) -> float:
        seconds = self.ends - time.monotonic()
        if seconds <= 0:
            raise too_late("the whole time is over")
        return seconds


class _Stream(httpcore.NetworkStream):
    def __init__(self, inner: httpcore.NetworkStream, deadline: _Deadline) -> None:
        self._inner = inner
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002 - the interface is httpcore's
        return self._inner.read(max_bytes, self._deadline.left(httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002 - as above
        for first in range(0, len(buffer), WRITE_BYTES):
            self._inner.write(buffer[first : first + WRITE_BYTES], self._deadline.left(httpcore.WriteTimeout))

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ARG002 - as above
    ) -> httpcore.NetworkStream:
        left = self._deadline.left(httpcore.ConnectTimeout)
        return _Stream(self._inner.start_tls(ssl_context, server_hostname, left), self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


class _Network(httpcore.NetworkBackend):
    """Connects within the deadline, name look-up included."""

    def __init__(self, deadline: _Deadline) -> None:
        self._deadline = deadline
        self._inner = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ARG002 - as above
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        addresses = self._addresses(host, port)
        for number, address in enumerate(addresses, 1):
            # An address that swallows packets must leave some time to the others.
            left = self._deadline.left(httpcore.ConnectTimeout) / (len(addresses) - number + 1)
            try:
                stream = self._inner.connect_tcp(address, port, left, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                if number == len(addresses):
                    raise
            else:
                return _Stream(stream, self._deadline)
        raise httpcore.ConnectError(f"{host} has no address")

    def _addresses(self, host: str, port: int) -> list[str]:
        # The system's look-up knows no time limit; one that hangs is left behind in its thread.
        found: SimpleQueue[list[str] | OSError] = SimpleQueue()

        def look_up() -> None:
            try:
                entries = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            except OSError as error:
                found.put(error)
            except UnicodeError:
                found.put(OSError("the host name is invalid"))
            else:
                found.put(list(dict.fromkeys(str(entry[4][0]) for entry in entries)))

        threading.Thread(target=look_up, name="bunce-name-look-up", daemon=True).start()
        try:
            answer = found.get(timeout=self._deadline.left(httpcore.ConnectTimeout))
        except Empty:
            raise httpcore.ConnectTimeout("the name look-up takes too long") from None
        if isinstance(answer, OSError):
            raise httpcore.ConnectError(str(answer)) from answer
        return answer


@contextlib.contextmanager
def _as_httpx() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        for kind, reason in _REASONS.items():
            if isinstance(error, kind):
                raise reason(str(error)) from error
        raise


class _Answer(httpx.SyncByteStream):
    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __iter__(self) -> Iterator[bytes]:
        with _as_httpx():
            yield from self._stream

    def close(self) -> None:
        self._stream.close()


class DeadlineTransport(httpx.BaseTransport):
    """Sends requests whose ``extensions["deadline"]`` is the monotonic second at which they must be over.

    The answer must be read in the thread that sent the request.

    Args:
        base_url: where all requests go; it decides about the proxy that the environment may name.
        connections: at once, and kept for 30 s after their last use.

    Raises:
        httpx.TransportError: from :meth:`handle_request` and from reading the answer.
        ValueError: the environment names a proxy that is none of http and https.
    """

    def __init__(self, base_url: str, connections: int) -> None:
        self._deadline = _Deadline()
        options: dict[str, Any] = {
            "ssl_context": httpx.create_ssl_context(),
            "max_connections": connections,
            "max_keepalive_connections": connections,
            "keepalive_expiry": 30.0,
            "network_backend": _Network(self._deadline),
        }
        proxy = _proxy_for(base_url)
        if proxy is None:
            self._pool = httpcore.ConnectionPool(**options)
        else:
            self._pool = httpcore.HTTPProxy(
                proxy_url=httpcore.URL(
                    scheme=proxy.url.raw_scheme,
                    host=proxy.url.raw_host,
                    port=proxy.url.port,
                    target=proxy.url.raw_path,
                ),
                proxy_auth=proxy.raw_auth,
                **options,
            )

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self._deadline.ends = request.extensions["deadline"]
        url = request.url
        assert isinstance(request.stream, httpx.SyncByteStream)
        with _as_httpx():
            left = self._deadline.left(httpcore.PoolTimeout)
            response = self._pool.handle_request(
                httpcore.Request(
                    request.method,
                    httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
                    headers=request.headers.raw,
                    content=request.stream,
                    # The pool waits for a free connection by itself; all other waits are the streams'.
                    extensions={"timeout": {"pool": left}},
                )
            )
        return httpx.Response(response.status, headers=response.headers, stream=_Answer(response.stream))

    def close(self) -> None:
        self._pool.close()


def _proxy_for(base_url: str) -> httpx.Proxy | None:
    url = httpx.URL(base_url)
    proxies = getproxies()
    address = proxies.get(url.scheme) or proxies.get("all")
    if not address or proxy_bypass(url.host):
        return None
    proxy = httpx.Proxy(address if "://" in address else f"http://{address}")
    if proxy.url.scheme not in {"http", "https"}:
        raise ValueError(f"the environment names a {proxy.url.scheme} proxy; only http and https proxies are supported")
    return proxy
