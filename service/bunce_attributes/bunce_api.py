"""The way to the API: one HTTP request with one deadline, and no retry of its own.

Foreign exceptions stop here: every exception of httpx is in :data:`TRANSPORT_FAULTS`, mapped to whether the server
may have applied the call (a test fails when httpx grows one that is not).
"""

from __future__ import annotations

import json
import os
import ssl
import threading
import time
from dataclasses import dataclass

import httpx

from bunce_attributes.answers import Answer
from bunce_attributes.deadlines import DeadlineTransport
from bunce_attributes.outcomes import Failed, Misconfigured
from bunce_attributes.version import __version__

CUSTOMERS_PATH = "/attributes/customers"
MOST_ANSWER_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class TransportFault:
    """What an exception means: what to tell, and whether the server may have applied the call."""

    text: str
    unknown: bool


TRANSPORT_FAULTS: dict[type[Exception], TransportFault] = {
    httpx.ConnectTimeout: TransportFault("no connection within the time", unknown=False),
    httpx.ReadTimeout: TransportFault("no answer within the time", unknown=True),
    httpx.WriteTimeout: TransportFault("the request could not be sent within the time", unknown=True),
    httpx.PoolTimeout: TransportFault("no free connection within the time", unknown=False),
    httpx.TimeoutException: TransportFault("no answer within the time", unknown=True),
    httpx.ConnectError: TransportFault("no connection", unknown=False),
    httpx.ReadError: TransportFault("the connection broke while the answer was awaited", unknown=True),
    httpx.WriteError: TransportFault("the connection broke while the request was sent", unknown=True),
    httpx.CloseError: TransportFault("the connection could not be closed", unknown=True),
    httpx.NetworkError: TransportFault("the connection broke", unknown=True),
    httpx.LocalProtocolError: TransportFault("the request breaks the HTTP protocol", unknown=False),
    httpx.RemoteProtocolError: TransportFault("the server hung up or broke the HTTP protocol", unknown=True),
    httpx.ProtocolError: TransportFault("the HTTP protocol was broken", unknown=True),
    httpx.ProxyError: TransportFault("the proxy refuses", unknown=False),
    httpx.UnsupportedProtocol: TransportFault("the address is neither http nor https", unknown=False),
    httpx.TransportError: TransportFault("the transport failed", unknown=True),
    httpx.DecodingError: TransportFault("the answer's content-encoding is broken", unknown=True),
    httpx.TooManyRedirects: TransportFault("the server redirects in circles", unknown=True),
    httpx.RequestError: TransportFault("the request failed", unknown=True),
    httpx.HTTPStatusError: TransportFault("the server answered with an error", unknown=True),
    httpx.HTTPError: TransportFault("the request failed", unknown=True),
    httpx.InvalidURL: TransportFault("the address is invalid", unknown=False),
    httpx.CookieConflict: TransportFault("the server's cookies conflict", unknown=True),
    httpx.StreamConsumed: TransportFault("the answer was read twice", unknown=True),
    httpx.StreamClosed: TransportFault("the answer was closed early", unknown=True),
    httpx.ResponseNotRead: TransportFault("the answer was not read", unknown=True),
    httpx.RequestNotRead: TransportFault("the request was not read", unknown=True),
    httpx.StreamError: TransportFault("the answer's stream failed", unknown=True),
}


def transport_fault(error: Exception) -> TransportFault:
    """What an exception of the HTTP client means; an unmapped one may have reached the server."""
    for kind in type(error).__mro__:
        if kind in TRANSPORT_FAULTS:
            return TRANSPORT_FAULTS[kind]
    return TransportFault("the request failed", unknown=True)


class BunceApi:
    """Calls of the API over connections that are kept. Safe in threads; in a forked child it starts anew.

    Args:
        base_url: without a trailing slash.
        key: the secret; it goes into the header, and is cut out of whatever the server sends back.
        transport: for tests.
    """

    def __init__(
        self,
        base_url: str,
        key: str,
        *,
        connections: int = 10,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._base_url = base_url
        self._key = key
        # As it may stand in an answer: plain, or in a JSON string, where some servers escape the slash too.
        self._key_forms = {form for form in (key, json.dumps(key)[1:-1], key.replace("/", "\\/")) if form}
        self._connections = connections
        self._transport = transport
        self._lock = threading.Lock()
        self._pid = 0
        self._headers = {
            "X-Authorization": key,
            "Accept": "application/json",
            "Content-Type": "application/json",
            "User-Agent": f"bunce-attributes/{__version__}",
        }
        self._open_transport: httpx.BaseTransport | None = None

    def __repr__(self) -> str:
        return f"BunceApi({self._base_url!r})"

    def send(self, rows: tuple[bytes, ...], deadline_seconds: float) -> Answer | Failed | Misconfigured:
        """``POST …/attributes/customers`` with rows that are JSON already.

        Args:
            deadline_seconds: for everything from name look-up to the last byte of the answer.
        """
        body = b'{"attributes":[' + b",".join(rows) + b"]}"
        return self._run("POST", CUSTOMERS_PATH, body, deadline_seconds)

    def look(self, deadline_seconds: float) -> Answer | Failed | Misconfigured:
        """A harmless request that tells whether the key is accepted: the first attribute of the account."""
        return self._run("GET", "/attributes?per_page=1", None, deadline_seconds)

    def close(self) -> None:
        """Close the connections; the next call opens new ones."""
        with self._lock:
            # After a fork they are the parent's.
            if self._open_transport is not None and self._pid == os.getpid():
                self._open_transport.close()
            self._open_transport = None

    def _connections_of_this_process(self) -> httpx.BaseTransport:
        with self._lock:
            if self._open_transport is None or self._pid != os.getpid():
                self._pid = os.getpid()
                self._open_transport = self._transport or DeadlineTransport(self._base_url, self._connections)
            return self._open_transport

    def _run(
        self, method: str, path: str, body: bytes | None, deadline_seconds: float
    ) -> Answer | Failed | Misconfigured:
        deadline = time.monotonic() + deadline_seconds
        try:
            # No httpx.Client: of all that it would do, redirects, cookies, authentication, nothing is wanted.
            response = self._connections_of_this_process().handle_request(
                httpx.Request(
                    method,
                    self._base_url + path,
                    headers=self._headers,
                    content=body,
                    extensions={"deadline": deadline},
                )
            )
            try:
                content = bytearray()
                for chunk in response.iter_bytes():
                    content += chunk
                    if len(content) > MOST_ANSWER_BYTES:
                        break
            finally:
                response.close()
        except httpx.TimeoutException as error:
            fault = transport_fault(error)
            return Failed(0, f"{fault.text} of {deadline_seconds:g} s", fault.unknown)
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, httpx.CookieConflict) as error:
            fault = transport_fault(error)
            return Failed(0, self._without_key(f"{fault.text}{_cause(error)}"), fault.unknown)
        except (OSError, ValueError) as error:
            return Failed(0, f"the request failed ({type(error).__name__})", unknown=True)
        headers = {name.lower(): value for name, value in response.headers.items()}
        answer = bytes(content)
        for form in self._key_forms:
            answer = answer.replace(form.encode(), b"***")
        return Answer(response.status_code, headers, answer)

    def _without_key(self, text: str) -> str:
        for form in self._key_forms:
            text = text.replace(form, "***")
        return text


def _cause(error: BaseException) -> str:
    """What a support engineer needs of the exception's chain: TLS and name look-up, never data."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ssl.SSLCertVerificationError):
            return f" (TLS certificate: {seen.verify_message})"
        if isinstance(seen, ssl.SSLError):
            return f" (TLS: {seen.reason})"
        if isinstance(seen, OSError) and seen.strerror:
            return f" ({seen.strerror})"
        seen = seen.__cause__ or seen.__context__
    return ""
