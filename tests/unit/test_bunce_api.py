"""Foreign exceptions stop at the client: each of httpx has its meaning, and a new one fails this test."""

from __future__ import annotations

import httpx
import pytest

from bunce_attributes.answers import Answer
from bunce_attributes.bunce_api import TRANSPORT_FAULTS, BunceApi, transport_fault
from bunce_attributes.outcomes import Failed

KEY = "sk_test_secret"
ROWS = (b"{}",)


def subclasses(kind: type[BaseException]) -> set[type[BaseException]]:
    below = {deep for child in kind.__subclasses__() for deep in subclasses(child)}
    return {kind} | below if kind.__module__.startswith("httpx") else below


def every_exception_of_httpx() -> set[type[BaseException]]:
    named = {v for v in vars(httpx).values() if isinstance(v, type) and issubclass(v, BaseException)}
    return named | {kind for root in named for kind in subclasses(root)}


def test_every_exception_of_httpx_is_mapped() -> None:
    found = every_exception_of_httpx()
    assert len(found) >= 25
    assert found - set(TRANSPORT_FAULTS) == set()


def test_only_what_surely_never_reached_the_server_is_known() -> None:
    known = {kind for kind, fault in TRANSPORT_FAULTS.items() if not fault.unknown}
    assert known == {
        httpx.ConnectTimeout,
        httpx.PoolTimeout,
        httpx.ConnectError,
        httpx.LocalProtocolError,
        httpx.ProxyError,
        httpx.UnsupportedProtocol,
        httpx.InvalidURL,
    }


def test_an_exception_that_httpx_grows_has_the_meaning_of_its_parent() -> None:
    class NewError(httpx.ConnectError):
        pass

    assert transport_fault(NewError("x")) is TRANSPORT_FAULTS[httpx.ConnectError]
    assert transport_fault(Exception("x")).unknown


def raising(error: Exception) -> BunceApi:
    def handle(request: httpx.Request) -> httpx.Response:
        raise error

    return BunceApi("http://api.test/v1", KEY, transport=httpx.MockTransport(handle))


def instance(kind: type[Exception]) -> Exception:
    text = f"cannot {KEY} this"
    if issubclass(kind, httpx.HTTPStatusError):
        request = httpx.Request("GET", "http://api.test")
        return kind(text, request=request, response=httpx.Response(500, request=request))
    try:
        return kind(text)
    except TypeError:
        return kind()


@pytest.mark.parametrize("kind", sorted(TRANSPORT_FAULTS, key=str))
def test_each_exception_becomes_a_failure_without_the_key(kind: type[Exception]) -> None:
    api = raising(instance(kind))
    try:
        reply = api.send(ROWS, 5)
    finally:
        api.close()
    assert isinstance(reply, Failed)
    assert reply.message.startswith(TRANSPORT_FAULTS[kind].text)
    assert (reply.status, reply.unknown) == (0, TRANSPORT_FAULTS[kind].unknown)
    assert KEY not in reply.message


@pytest.mark.parametrize("error", [OSError(f"no {KEY}"), ValueError(KEY), UnicodeEncodeError("ascii", "ä", 0, 1, KEY)])
def test_exceptions_of_python_become_failures_too(error: Exception) -> None:
    api = raising(error)
    try:
        reply = api.send(ROWS, 5)
    finally:
        api.close()
    assert isinstance(reply, Failed)
    assert reply.unknown
    assert KEY not in reply.message


def test_a_cause_is_told_for_the_support_engineer() -> None:
    error = httpx.ConnectError("failed")
    error.__cause__ = OSError(111, "Connection refused")
    api = raising(error)
    try:
        reply = api.send(ROWS, 5)
    finally:
        api.close()
    assert reply == Failed(0, "no connection (Connection refused)", unknown=False)


def test_an_answer_comes_back_whole() -> None:
    transport = httpx.MockTransport(lambda request: httpx.Response(200, json={"data": {}}, headers={"X-Y": "z"}))
    api = BunceApi("http://api.test/v1", KEY, transport=transport)
    try:
        reply = api.send(ROWS, 5)
    finally:
        api.close()
    assert isinstance(reply, Answer)
    assert (reply.status, reply.headers["x-y"], reply.body) == (200, "z", b'{"data":{}}')
