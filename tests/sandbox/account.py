"""The sandbox's application without a socket, for tests that need neither."""

import asyncio
import json
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import httpx

from bunce_attributes.sandbox import SandboxApp, SandboxConfig
from bunce_attributes.sandbox.faults import parse_faults

TEXT = "9f171295-6935-400c-af6b-fd628a46bc71"
BIRTHDAY = "11111111-2222-4333-8444-555555555555"
AGE = "66666666-7777-4888-9999-aaaaaaaaaaaa"


class Clock:
    """Seconds that pass only when a test says so."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


class Account:
    """One account of the API, called in process."""

    def __init__(self, faults: dict[str, Any] | None = None, *, clock: Clock | None = None, **config: Any) -> None:
        config.setdefault("attributes", {TEXT: "text", BIRTHDAY: "timestamp", AGE: "numeric"})
        self.app = SandboxApp(
            SandboxConfig(**config),
            parse_faults(json.dumps(faults or {})),
            clock=clock if clock is not None else time.monotonic,
        )
        self._runner = asyncio.Runner()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._runner.close()

    def post(self, rows: Any, **options: Any) -> httpx.Response:
        return self.request("POST", "/v1/attributes/customers", json={"attributes": rows}, **options)

    def set_values(self, values: dict[str, str], attribute: str = TEXT) -> httpx.Response:
        """One row for each customer_id."""
        return self.post([row(identity, value, attribute) for identity, value in values.items()])

    def request(
        self,
        method: str,
        path: str,
        *,
        key: str | None = "sk_test_sandbox",
        address: str = "10.0.0.1",
        headers: dict[str, str] | None = None,
        **options: Any,
    ) -> httpx.Response:
        sent = {**({"X-Authorization": key} if key is not None else {}), **(headers or {})}

        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(app=self.app, client=(address, 12345))
            async with httpx.AsyncClient(transport=transport, base_url="http://sandbox") as client:
                return await client.request(method, path, headers=sent, **options)

        return self._runner.run(ask())

    def look(self, path: str) -> Any:
        """What `/_sandbox` tells."""
        response = self.request("GET", f"/_sandbox{path}")
        assert response.status_code == 200, response.text
        return response.json()

    def held(self) -> dict[str, str]:
        """Identity → value, over all attributes."""
        return {value["identity"]: value["value"] for value in self.look("/values")}

    def put_faults(self, faults: dict[str, Any]) -> httpx.Response:
        return self.request("PUT", "/_sandbox/faults", json=faults)

    def wait_until(self, condition: Callable[[], bool], seconds: float = 10) -> None:
        """Let the application work until this holds."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "it did not come about"
            self._runner.run(asyncio.sleep(0.005))


def row(identity: str, value: str = "Developer", attribute: str = TEXT) -> dict[str, Any]:
    name = "customer_email" if "@" in identity else "customer_id"
    return {"id": attribute, name: identity, "value": value}
