"""Reading a running sandbox back, and setting its faults, from Python."""

import json
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Final, Self, TypedDict
from urllib.parse import quote

import httpx

from bunce_attributes.sandbox.config import API_PREFIX, CONTROL_PREFIX, DataType, SandboxError

_CALLS_PAGE: Final = 500
_SENDS_PAGE: Final = 10_000


class Row(TypedDict):
    """A row as it was sent. `identity_kind` is `customer_id` or `customer_email`; emails are in lower case."""

    id: str
    identity_kind: str
    identity: str
    value: str


class Value(Row):
    """What one attribute of one customer holds now; `identity` is the `customer_id` if there is one."""

    customer_id: str | None
    customer_email: str | None


class Send(Row):
    """One application of one row; `n` numbers these from 1, `call` and `index` tell where it came from."""

    n: int
    call: int
    index: int
    applied_at: float


class Call(TypedDict):
    """One POST of attribute values; see `journal.Call`."""

    seq: int
    received_at: float
    answered_at: float | None
    status: int | None
    errors: list[int]
    saved: bool
    applied_at: float | None
    fault: str | None
    row_count: int
    rows: list[Row]


class Stats(TypedDict):
    """Sums since the start; see `journal.Counts`."""

    requests: dict[str, int]
    rows_per_call: dict[str, int]
    rows_received: int
    rows_saved: int
    rows_refused: int
    in_flight: int
    max_in_flight: int
    customers: int
    values: int


class SandboxClient:
    """Speaks to the control of a running sandbox.

    Args:
        root: Where it listens, like `http://127.0.0.1:8400`.

    Raises:
        SandboxError: From every method: the sandbox cannot be reached, or refuses; the text says why.
    """

    def __init__(self, root: str) -> None:
        self.root = root
        self._http = httpx.Client(base_url=root, timeout=60, trust_env=False)

    @property
    def url(self) -> str:
        """The base URL of its API, for `BUNCE_API_URL`."""
        return self.root + API_PREFIX

    def values(self) -> list[Value]:
        """What all attributes of all customers hold."""
        values: list[Value] = self._ask("GET", "/values")
        return values

    def customer(self, identity: str) -> dict[str, Any] | None:
        """A customer by `customer_id` or email: details, `devices` and `attributes` (id → value)."""
        response = self._request("GET", f"/customers/{quote(identity, safe='')}")
        if response.status_code == 404:
            return None
        found: dict[str, Any] = _checked(response)
        return found

    def stats(self) -> Stats:
        stats: Stats = self._ask("GET", "/stats")
        return stats

    def calls(self, after: int = 0, *, rows: bool = True) -> list[Call]:
        """All calls with a `seq` above `after`, in order of arrival."""
        found: list[Call] = []
        while True:
            page = self._ask("GET", f"/calls?after={after}&limit={_CALLS_PAGE}&rows={int(rows)}")
            found += page
            if len(page) < _CALLS_PAGE:
                return found
            after = page[-1]["seq"]

    def sends(self, after: int = 0) -> list[Send]:
        """All applied rows with an `n` above `after`, in order of their application."""
        found: list[Send] = []
        while True:
            page = self._ask("GET", f"/sends?after={after}&limit={_SENDS_PAGE}")
            found += page
            if len(page) < _SENDS_PAGE:
                return found
            after = page[-1]["n"]

    def put_faults(self, faults: Mapping[str, Any]) -> None:
        """Replace all faults by these; their JSON is in docs/sandbox.md."""
        self._ask("PUT", "/faults", content=json.dumps(faults))

    def reset_faults(self) -> None:
        """Nothing goes wrong from now on."""
        self._ask("DELETE", "/faults")

    def put_attribute(self, attribute_id: str, data_type: DataType, name: str | None = None) -> None:
        """Create an attribute under this UUID, or change its type."""
        self._ask("PUT", f"/attributes/{attribute_id}", content=json.dumps({"data_type": data_type, "name": name}))

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _request(self, method: str, path: str, content: str | None = None) -> httpx.Response:
        try:
            return self._http.request(method, CONTROL_PREFIX + path, content=content)
        except httpx.HTTPError as error:
            raise SandboxError(f"The sandbox at {self.root} does not answer: {error}.") from error

    def _ask(self, method: str, path: str, content: str | None = None) -> Any:
        return _checked(self._request(method, path, content))


def _checked(response: httpx.Response) -> Any:
    if response.is_success:
        return response.json()
    try:
        reason = response.json()["error"]
    except (ValueError, KeyError, TypeError):
        reason = f"The sandbox answered {response.status_code}: {response.text[:200]}"
    raise SandboxError(reason)
