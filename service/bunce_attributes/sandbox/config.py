"""What a sandbox is started with."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Literal, get_args

DataType = Literal["text", "timestamp", "numeric"]
DATA_TYPES: Final[tuple[DataType, ...]] = get_args(DataType)

DEFAULT_KEY: Final = "sk_test_sandbox"
TEST_KEY_PREFIX: Final = "sk_test_"
DEFAULT_HOST: Final = "127.0.0.1"
DEFAULT_PORT: Final = 8400
API_PREFIX: Final = "/v1"
CONTROL_PREFIX: Final = "/_sandbox"

# The documentation names no largest body. This one only keeps a runaway client from filling the memory.
DEFAULT_MAX_BODY_BYTES: Final = 64 * 1024 * 1024


class SandboxError(Exception):
    """The sandbox was asked for something impossible; the text is one sentence for the person who asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxConfig:
    """Everything about a sandbox that does not change while it runs.

    Args:
        keys: The API keys that are accepted; empty accepts every key that starts with `sk_test_`.
        strict_attributes: Refuse rows of unknown attributes, instead of creating these as text.
        attributes: Attributes that exist from the start, UUID → type.
        requests_per_minute: For each client address; None is no limit.
        penalty_seconds: How long an address is refused after it overran the limit.
        max_rows: The largest call in rows, past it 413; None is no limit.
        max_body_bytes: The largest call in bytes, past it 413.
        instant: Answer without looking at the rows (they are read when somebody asks for them).
        log: Keep the call log; without it `calls` and `sends` cannot be read back.

    Raises:
        SandboxError: A value is out of range.
    """

    keys: frozenset[str] = frozenset()
    strict_attributes: bool = False
    attributes: Mapping[str, DataType] = field(default_factory=lambda: MappingProxyType({}))
    requests_per_minute: int | None = 500
    penalty_seconds: float = 60.0
    max_rows: int | None = None
    max_body_bytes: int = DEFAULT_MAX_BODY_BYTES
    instant: bool = False
    log: bool = True

    def __post_init__(self) -> None:
        if self.requests_per_minute is not None and self.requests_per_minute < 1:
            raise SandboxError(
                f"requests_per_minute is {self.requests_per_minute}: give at least 1, or no limit at all."
            )
        if not (math.isfinite(self.penalty_seconds) and self.penalty_seconds >= 0):
            raise SandboxError(f"penalty_seconds is {self.penalty_seconds}: give 0 or more seconds.")
        if self.max_rows is not None and self.max_rows < 1:
            raise SandboxError(f"max_rows is {self.max_rows}: give at least 1, or no limit at all.")
        if self.max_body_bytes < 1:
            raise SandboxError(f"max_body_bytes is {self.max_body_bytes}: give at least 1 byte.")

    def accepts(self, key: str) -> bool:
        """Whether a call with this `X-Authorization` header passes."""
        return key in self.keys if self.keys else key.startswith(TEST_KEY_PREFIX)

    @property
    def example_key(self) -> str:
        """A key that is accepted."""
        return min(self.keys) if self.keys else DEFAULT_KEY
