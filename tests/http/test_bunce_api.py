"""The client on real connections: one deadline for everything, kept connections, nothing that leads elsewhere."""

from __future__ import annotations

import gzip
import json
import os
import select
import socket
import struct
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.http.rawserver import Script, answer, raw_server

from bunce_attributes.answers import Answer, read_answer
from bunce_attributes.bunce_api import MOST_ANSWER_BYTES, BunceApi
from bunce_attributes.outcomes import Failed
from bunce_attributes.version import __version__

KEY = "sk_test_a-secret/that+is=one"
ROWS = (b'{"id":"1","value":"\xc3\xa4"}', b'{"id":"2","value":"b"}')
SLACK_SECONDS = 1.5
"""What a busy machine may add to a deadline."""


@pytest.fixture
def apis() -> Iterator[list[BunceApi]]:
    """Clients to be closed after the test."""
    made: list[BunceApi] = []
    yield made
    for api in made:
        api.close()


def client(apis: list[BunceApi], url: str) -> BunceApi:
    apis.append(BunceApi(url, KEY))
    return apis[-1]


def says(*parts: bytes) -> Script:
    def script(connection: socket.socket, request: bytes) -> None:
        for part in parts:
            connection.sendall(part)

    return script


def failed(reply: object) -> Failed:
    assert isinstance(reply, Failed), reply
    return reply


def answered(reply: object) -> Answer:
    assert isinstance(reply, Answer), reply
    return reply


def test_the_request_is_that_of_the_reference(apis: list[BunceApi]) -> None:
    with raw_server(says(answer())) as server:
        answered(client(apis, server.url).send(ROWS, 5))
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
    assert lines[0] == "POST /v1/attributes/customers HTTP/1.1"
    assert headers["x-authorization"] == KEY
    assert headers["content-type"] == headers["accept"] == "application/json"
    assert headers["user-agent"] == f"bunce-attributes/{__version__}"
    assert "cookie" not in headers
    assert json.loads(body) == {"attributes": [{"id": "1", "value": "ä"}, {"id": "2", "value": "b"}]}
    assert len(body) == 17 + sum(map(len, ROWS)) + len(ROWS) - 1, "the envelope of 17 bytes that intake counts with"


def test_connections_are_kept(apis: list[BunceApi]) -> None:
    with raw_server(says(answer())) as server:
        api = client(apis, server.url)
        for _ in range(5):
            answered(api.send(ROWS, 5))
    assert (len(server.requests), server.connections) == (5, 1)


def test_calls_of_many_threads_share_the_client(apis: list[BunceApi]) -> None:
    with raw_server(says(answer())) as server:
        api = client(apis, server.url)
        with ThreadPoolExecutor(8) as pool:
            replies = list(pool.map(lambda _: api.send(ROWS, 5), range(40)))
    assert all(isinstance(reply, Answer) for reply in replies)
    assert server.connections <= 10


def test_a_connection_that_the_server_closed_meanwhile_is_replaced(apis: list[BunceApi]) -> None:
    with raw_server(says(answer(200, b'{"data":{}}', "Connection: close"))) as server:
        api = client(apis, server.url)
        for _ in range(3):
            answered(api.send(ROWS, 5))
    assert server.connections == 3


def test_a_forked_child_opens_its_own_connections(apis: list[BunceApi]) -> None:
    with raw_server(says(answer())) as server:
        api = client(apis, server.url)
        answered(api.send(ROWS, 5))
        pid = os.fork()
        if pid == 0:
            os._exit(0 if isinstance(api.send(ROWS, 5), Answer) else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        answered(api.send(ROWS, 5))
        assert server.connections == 2


# -- the deadline ---------------------------------------------------------------------------------------------------


def drip(data: bytes, pause: float) -> Script:
    """One byte at a time: each phase's own time-out would never end."""

    def script(connection: socket.socket, request: bytes) -> None:
        for n in range(len(data)):
            connection.sendall(data[n : n + 1])
            readable, _, _ = select.select([connection], [], [], pause)
            if readable:
                raise OSError

    return script


@pytest.mark.parametrize(
    "script",
    [
        drip(answer(200, b'{"data":{}}' + b" " * 500), 0.02),
        drip(answer(200, b" " * 10, *(f"X-{n}: 1" for n in range(50))), 0.02),
        drip(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 200, 0.02),
        lambda connection, request: None,
    ],
    ids=["body", "headers", "chunks", "silence"],
)
def test_the_deadline_holds_for_the_whole_call(apis: list[BunceApi], script: Script) -> None:
    with raw_server(script) as server:
        api = client(apis, server.url)
        begun = time.monotonic()
        reply = failed(api.send(ROWS, 0.4))
        took = time.monotonic() - begun
    assert 0.39 <= took < 0.4 + SLACK_SECONDS
    assert (reply.status, reply.unknown) == (0, True)
    assert "0.4 s" in reply.message


def test_the_deadline_holds_while_the_body_is_being_sent(apis: list[BunceApi]) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    with listener:
        api = client(apis, f"http://127.0.0.1:{listener.getsockname()[1]}/v1")
        begun = time.monotonic()
        reply = failed(api.send((b"x" * 50_000_000,), 0.4))
        assert time.monotonic() - begun < 0.4 + SLACK_SECONDS
    assert reply.unknown


def test_the_deadline_holds_for_a_server_that_reads_in_sips(apis: list[BunceApi]) -> None:
    """Each sip makes room for a little more to be sent, so that no single wait is long."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        done = threading.Event()

        def sip() -> None:
            connection, _ = listener.accept()
            with connection:
                while not done.wait(0.05):
                    connection.recv(4096)

        threading.Thread(target=sip, daemon=True).start()
        api = client(apis, f"http://127.0.0.1:{listener.getsockname()[1]}/v1")
        begun = time.monotonic()
        reply = failed(api.send((b"x" * 20_000_000,), 0.5))
        took = time.monotonic() - begun
        done.set()
    assert reply.unknown
    assert took < 0.5 + SLACK_SECONDS


def test_a_call_after_a_missed_deadline_uses_no_leftovers(apis: list[BunceApi]) -> None:
    """An answer that comes late must not be taken for the answer to the next call."""
    late = threading.Event()

    def script(connection: socket.socket, request: bytes) -> None:
        if b'"first"' in request:
            late.wait(5)
            connection.sendall(answer(200, b'{"data":{"late":1}}'))
        else:
            connection.sendall(answer(200, b'{"data":{"second":1}}'))

    with raw_server(script) as server:
        api = client(apis, server.url)
        failed(api.send((b'"first"',), 0.2))
        late.set()
        assert b"second" in answered(api.send((b'"second"',), 5)).body
    assert server.connections == 2


# -- what a server may do -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(apis: list[BunceApi], status: int) -> None:
    """The key and the customers' data must not go to another address."""
    with raw_server(says(answer())) as elsewhere:
        moved = answer(status, b"", f"Location: {elsewhere.url}/attributes/customers")
        with raw_server(says(moved)) as server:
            assert answered(client(apis, server.url).send(ROWS, 5)).status == status
    assert elsewhere.requests == []


def test_cookies_of_the_server_are_not_sent_elsewhere(apis: list[BunceApi]) -> None:
    with raw_server(says(answer(200, b'{"data":{}}', "Set-Cookie: tracker=1; Domain=example.com"))) as server:
        api = client(apis, server.url)
        api.send(ROWS, 5)
        api.send(ROWS, 5)
    assert b"tracker" not in server.requests[1]


@pytest.mark.parametrize(
    "form",
    [KEY, KEY.replace("/", "\\/"), f"Bearer {KEY}!", f"{KEY}{KEY}"],
)
@pytest.mark.parametrize("status", [200, 401, 422, 500])
def test_a_key_that_the_server_sends_back_is_in_no_outcome(apis: list[BunceApi], form: str, status: int) -> None:
    body = b'{"data":{"errors":{"0":"key %s"}},"message":"key %s","errors":{"0":"%s"}}'.replace(b"%s", form.encode())
    from datetime import UTC, datetime

    with raw_server(says(answer(status, body))) as server:
        reply = answered(client(apis, server.url).send(ROWS, 5))
    outcome = read_answer(reply, 2, datetime.now(UTC))
    assert KEY not in repr(outcome)
    assert "***" in repr(outcome)


def test_the_key_is_in_no_repr(apis: list[BunceApi]) -> None:
    api = client(apis, "http://127.0.0.1:9")
    assert KEY not in repr(api)


def hang_up(connection: socket.socket, request: bytes) -> None:
    raise OSError


def reset(connection: socket.socket, request: bytes) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    raise OSError


def part_then_hang_up(connection: socket.socket, request: bytes) -> None:
    connection.sendall(answer(200, b"x" * 100)[:-50])
    raise OSError


@pytest.mark.parametrize(
    "script",
    [
        hang_up,
        reset,
        part_then_hang_up,
        says(b"SSH-2.0-OpenSSH_9.6\r\n\r\n"),
        says(b"\x00" * 100),
        says(b"HTTP/1.1 abc\r\n\r\n"),
        says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
        says(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello"),
        says(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 200_000 + b"\r\n\r\n"),
    ],
    ids=["hang up", "reset", "half", "no http", "zeros", "bad status", "bad chunk", "bad gzip", "long header"],
)
def test_a_server_that_breaks_off_may_have_applied_the_call(apis: list[BunceApi], script: Script) -> None:
    with raw_server(script) as server:
        reply = failed(client(apis, server.url).send(ROWS, 5))
    assert (reply.status, reply.unknown) == (0, True)


def test_a_server_that_is_not_there_has_applied_nothing(apis: list[BunceApi]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    reply = failed(client(apis, f"http://127.0.0.1:{port}/v1").send(ROWS, 5))
    assert (reply.status, reply.unknown) == (0, False)
    assert "no connection" in reply.message


def test_a_name_that_does_not_exist_has_applied_nothing(apis: list[BunceApi]) -> None:
    reply = failed(client(apis, "http://no-such-host.invalid/v1").send(ROWS, 20))
    assert reply.unknown is False


def test_a_server_without_tls_where_tls_is_asked_for(apis: list[BunceApi]) -> None:
    def script(connection: socket.socket, request: bytes) -> None:
        raise OSError

    with raw_server(script) as server, socket.create_server(("127.0.0.1", 0)) as plain:

        def speak_http() -> None:
            connection, _ = plain.accept()
            with connection:
                connection.recv(100)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        threading.Thread(target=speak_http, daemon=True).start()
        reply = failed(client(apis, f"https://127.0.0.1:{plain.getsockname()[1]}/v1").send(ROWS, 5))
        assert server.requests == []
    assert reply.unknown is False
    assert "TLS" in reply.message


@pytest.mark.parametrize("url", ["http://[::1", "ftp://x", "http://127.0.0.1:99999/v1", "http://\x00/"])
def test_an_impossible_address_is_a_failure_and_no_exception(apis: list[BunceApi], url: str) -> None:
    assert failed(client(apis, url).send(ROWS, 2)).status == 0


def test_compressed_answers_are_read(apis: list[BunceApi]) -> None:
    body = gzip.compress(b'{"data":{"errors":{"1":"no"}}}')
    with raw_server(says(answer(200, body, "Content-Encoding: gzip"))) as server:
        assert b'"1":"no"' in answered(client(apis, server.url).send(ROWS, 5)).body


def test_an_endless_answer_is_cut(apis: list[BunceApi]) -> None:
    def endless(connection: socket.socket, request: bytes) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            connection.sendall(b"100000\r\n" + b" " * 0x100000 + b"\r\n")

    with raw_server(endless) as server:
        reply = answered(client(apis, server.url).send(ROWS, 20))
    assert len(reply.body) <= MOST_ANSWER_BYTES + 0x200000


def test_headers_are_lower_case_and_retry_after_is_among_them(apis: list[BunceApi]) -> None:
    with raw_server(says(answer(429, b"", "RETRY-AFTER: 4"))) as server:
        assert answered(client(apis, server.url).send(ROWS, 5)).headers["retry-after"] == "4"


def test_looking_asks_for_one_attribute(apis: list[BunceApi]) -> None:
    with raw_server(says(answer())) as server:
        answered(client(apis, server.url).look(5))
    assert server.requests[0].startswith(b"GET /v1/attributes?per_page=1 HTTP/1.1\r\n")


def test_closing_closes_the_connections() -> None:
    ended = threading.Event()

    def script(connection: socket.socket, request: bytes) -> None:
        connection.sendall(answer())
        if connection.recv(1) == b"":
            ended.set()
        raise OSError

    with raw_server(script) as server:
        api = BunceApi(server.url, KEY)
        api.send(ROWS, 5)
        assert not ended.is_set()
        api.close()
        api.close()
        assert ended.wait(5)


def test_a_closed_client_opens_again(apis: list[BunceApi]) -> None:
    with raw_server(says(answer())) as server:
        api = client(apis, server.url)
        api.send(ROWS, 5)
        api.close()
        answered(api.send(ROWS, 5))
