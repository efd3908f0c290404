"""What only shows on a real connection: closing it, being slow on it, and stopping while it is open."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from tests.sandbox.account import TEXT, row

from bunce_attributes.sandbox import Sandbox, SandboxClient, SandboxConfig, SandboxError
from bunce_attributes.sandbox.server import listen


@pytest.fixture(scope="module")
def shared() -> Iterator[Sandbox]:
    with Sandbox(config=SandboxConfig(requests_per_minute=None)) as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(shared: Sandbox) -> Iterator[Sandbox]:
    yield shared
    shared.reset_faults()


def _post(sandbox: Sandbox, *rows: dict[str, Any], timeout: float = 10) -> httpx.Response:
    return httpx.post(
        f"{sandbox.url}/attributes/customers",
        json={"attributes": list(rows)},
        headers={"X-Authorization": sandbox.key},
        timeout=timeout,
        trust_env=False,
    )


def _wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.01)


def _held(sandbox: Sandbox, identity: str) -> str | None:
    customer = sandbox.customer(identity)
    return customer["attributes"][TEXT] if customer is not None else None


def test_a_call_over_the_wire(sandbox: Sandbox) -> None:
    assert _post(sandbox, row("wire", "x")).status_code == 200
    assert _held(sandbox, "wire") == "x"


@pytest.mark.parametrize("save", [False, True])
def test_hanging_up_before_and_after_saving(sandbox: Sandbox, save: bool) -> None:
    sandbox.put_faults({"calls": [{"do": "hang_up", "save": save}]})
    with pytest.raises(httpx.RemoteProtocolError):
        _post(sandbox, row(f"hang up {save}"))
    assert (_held(sandbox, f"hang up {save}") is not None) is save
    call = sandbox.calls()[-1]
    assert (call["status"], call["saved"], call["fault"]) == (None, save, "hang_up")
    assert sandbox.stats()["requests"]["hung_up"] >= 1


def test_hanging_up_by_reset(sandbox: Sandbox) -> None:
    sandbox.put_faults({"calls": [{"do": "hang_up", "reset": True}]})
    with pytest.raises(httpx.ReadError):
        _post(sandbox, row("reset"))


def test_a_truncated_answer_ends_in_the_middle(sandbox: Sandbox) -> None:
    sandbox.put_faults({"calls": [{"do": "malformed", "kind": "truncated"}]})
    with pytest.raises(httpx.RemoteProtocolError, match="complete message body"):
        _post(sandbox, row("truncated"))
    assert _held(sandbox, "truncated") == "Developer"


def test_trickling_outlasts_timeouts_of_single_reads(sandbox: Sandbox) -> None:
    sandbox.put_faults({"calls": [{"do": "trickle", "seconds": 0.6}]})
    begun = time.monotonic()
    answer = _post(sandbox, row("trickle"), timeout=0.4)
    assert time.monotonic() - begun >= 0.6
    assert answer.json()["success"] is True


def test_a_hang_that_saves_does_so_in_the_end(sandbox: Sandbox) -> None:
    sandbox.put_faults({"calls": [{"do": "hang", "seconds": 0.5, "save": True}]})
    with pytest.raises(httpx.ReadTimeout):
        _post(sandbox, row("hang", "saved"), timeout=0.1)
    _wait_until(lambda: _held(sandbox, "hang") == "saved")
    _wait_until(lambda: sandbox.stats()["in_flight"] == 0)
    call = sandbox.calls()[-1]
    assert call["applied_at"] is not None
    assert call["applied_at"] - call["received_at"] >= 0.5


def test_a_hang_can_save_at_once() -> None:
    with Sandbox(faults={"calls": [{"do": "hang", "seconds": 60, "save_after_seconds": 0}]}) as sandbox:
        with pytest.raises(httpx.ReadTimeout):
            _post(sandbox, row("hang at once"), timeout=0.2)
        assert _held(sandbox, "hang at once") == "Developer"
        assert sandbox.calls()[-1]["answered_at"] is None


def test_a_hang_without_saving_ends_in_a_closed_connection(sandbox: Sandbox) -> None:
    sandbox.put_faults({"calls": [{"do": "hang", "seconds": 0.1}]})
    with pytest.raises(httpx.RemoteProtocolError):
        _post(sandbox, row("hang up late"))
    assert _held(sandbox, "hang up late") is None


def test_a_hang_without_end_ends_when_the_faults_change(sandbox: Sandbox) -> None:
    sandbox.put_faults({"calls": [{"do": "hang", "save": True}]})
    answers: list[httpx.Response] = []
    caller = threading.Thread(target=lambda: answers.append(_post(sandbox, row("let go"))))
    caller.start()
    _wait_until(lambda: sandbox.stats()["in_flight"] == 1)
    assert sandbox.calls()[-1]["answered_at"] is None
    sandbox.reset_faults()
    caller.join(10)
    assert [answer.status_code for answer in answers] == [200]
    assert _held(sandbox, "let go") == "Developer"


def test_concurrent_calls_are_counted() -> None:
    with Sandbox(faults={"calls": [{"do": "hang", "save": True}]}) as sandbox:
        callers = [threading.Thread(target=_post, args=(sandbox, row(f"c{number}"))) for number in range(3)]
        for caller in callers:
            caller.start()
        _wait_until(lambda: sandbox.stats()["in_flight"] == 3)
        sandbox.reset_faults()
        for caller in callers:
            caller.join(10)
        _post(sandbox, row("alone"))
        stats = sandbox.stats()
        assert (stats["in_flight"], stats["max_in_flight"]) == (0, 3)


def test_a_client_that_leaves_in_the_middle_of_its_body_is_no_error(sandbox: Sandbox) -> None:
    host, port = sandbox.root.removeprefix("http://").split(":")
    before = sandbox.stats()["requests"].get("hung_up", 0)
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(b"POST /v1/attributes/customers HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{")
    _wait_until(lambda: sandbox.stats()["requests"].get("hung_up", 0) == before + 1)
    assert _post(sandbox, row("after")).status_code == 200


def test_a_large_body_arrives_in_pieces(sandbox: Sandbox) -> None:
    rows = [row(f"large {number}", "x" * 100) for number in range(5_000)]
    assert _post(sandbox, *rows).status_code == 200
    assert sum(1 for value in sandbox.values() if value["identity"].startswith("large ")) == 5_000
    assert len(sandbox.sends()) >= 5_000


def test_a_body_in_pieces_that_is_too_large_is_413() -> None:
    with Sandbox(config=SandboxConfig(max_body_bytes=100_000)) as sandbox:
        assert _post(sandbox, row("1", "x" * 1_000_000)).status_code == 413
        assert sandbox.values() == []


def test_answers_do_not_wait_for_delayed_acknowledgements() -> None:
    """With Nagle's algorithm on, every second write of an answer waits 40 ms: 25 calls a second, not 2,000."""
    listener = listen("127.0.0.1", 0)

    async def nodelay_of_an_accepted_connection() -> int:
        accepted: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        class Protocol(asyncio.Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                connection = transport.get_extra_info("socket")
                accepted.set_result(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

        async with await asyncio.get_running_loop().create_server(Protocol, sock=listener):
            with socket.create_connection(listener.getsockname()):
                return await asyncio.wait_for(accepted, 10)

    assert asyncio.run(nodelay_of_an_accepted_connection()) != 0


def test_closing_lets_go_of_hanging_calls_at_once() -> None:
    with Sandbox(faults={"calls": [{"do": "hang"}], "latency": 0.01}, keys={"sk_test_mine"}) as sandbox:
        assert sandbox.key == "sk_test_mine"
        failures: list[Exception] = []

        def call() -> None:
            try:
                _post(sandbox, row("1"))
            except httpx.HTTPError as error:
                failures.append(error)

        caller = threading.Thread(target=call)
        caller.start()
        _wait_until(lambda: sandbox.stats()["in_flight"] == 1)
        begun = time.monotonic()
    assert time.monotonic() - begun < 5
    caller.join(10)
    assert len(failures) == 1


def test_a_taken_port_is_one_readable_error(sandbox: Sandbox) -> None:
    port = int(sandbox.root.rsplit(":", 1)[1])
    with pytest.raises(SandboxError, match=f"cannot listen on 127.0.0.1:{port}: .*--port"):
        Sandbox(port=port)


def test_a_sandbox_that_is_gone_is_one_readable_error() -> None:
    with Sandbox() as sandbox:
        root = sandbox.root
    with SandboxClient(root) as client, pytest.raises(SandboxError, match=f"{root} does not answer"):
        client.stats()


def test_what_the_control_refuses_is_said_to_the_caller(sandbox: Sandbox) -> None:
    with pytest.raises(SandboxError, match="latency"):
        sandbox.put_faults({"latency": -1})
    with pytest.raises(SandboxError, match="no UUID"):
        sandbox.put_attribute("nonsense", "text")


def test_attributes_can_be_typed_from_python(sandbox: Sandbox) -> None:
    attribute = "0d9cf0b6-6d6a-4c0e-9df4-3f8b5b8d1f11"
    sandbox.put_attribute(attribute, "numeric", "age")
    assert list(_post(sandbox, row("typed", "x", attribute)).json()["data"]["errors"]) == ["0"]
