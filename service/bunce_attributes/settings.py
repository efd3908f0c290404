"""The settings of the service: one frozen, validated value, built at the entry point.

They come from the environment or from a ``.env`` file in the working directory; the environment wins.
A secret may also be a file: ``BUNCE_API_KEY_FILE`` names one (a Docker or Kubernetes secret).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from difflib import get_close_matches
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Self
from urllib.parse import urlsplit

from dotenv import dotenv_values
from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, SettingsConfigDict

from bunce_attributes.connections import UnusableRedisUrl, connect


class SettingsError(Exception):
    """The settings are wrong; ``str()`` is a readable list of every fault, without any secret."""


class Environment(StrEnum):
    """Which of the vendor's two environments is meant."""

    LIVE = "live"
    SANDBOX = "sandbox"


BASE_URLS = {
    Environment.LIVE: "https://api.bunce.so/v1",
    Environment.SANDBOX: "https://sandbox.api.bunce.so/v1",
}
_KEY_PREFIXES = {Environment.LIVE: "sk_live_", Environment.SANDBOX: "sk_test_"}

Seconds = Annotated[float, Field(ge=0, le=86_400 * 366, allow_inf_nan=False)]
PositiveSeconds = Annotated[float, Field(gt=0, le=86_400 * 366, allow_inf_nan=False)]


class Settings(BaseSettings):
    """Every setting with its unit; the environment variable is the alias."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="ignore",
        env_file=".env",
        env_file_encoding="utf-8",
        env_ignore_empty=True,
        populate_by_name=True,
        hide_input_in_errors=True,
    )

    api_key: Annotated[SecretStr | None, Field(alias="BUNCE_API_KEY")] = None
    api_key_file: Annotated[Path | None, Field(alias="BUNCE_API_KEY_FILE")] = None
    env: Annotated[Environment, Field(alias="BUNCE_ENV")] = Environment.LIVE
    api_url: Annotated[str | None, Field(alias="BUNCE_API_URL")] = None
    redis_url: Annotated[str, Field(alias="REDIS_URL")] = "redis://localhost:6379/0"
    namespace: Annotated[str, Field(alias="BUNCE_NAMESPACE", pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:-]{0,99}$")] = (
        "bunce-attributes"
    )
    batch_max_rows: Annotated[int, Field(alias="BUNCE_BATCH_MAX_ROWS", ge=1, le=10_000)] = 100
    batch_max_bytes: Annotated[int, Field(alias="BUNCE_BATCH_MAX_BYTES", ge=1_000, le=100_000_000)] = 1_000_000
    batch_max_wait_seconds: Annotated[Seconds, Field(alias="BUNCE_BATCH_MAX_WAIT_SECONDS")] = 1.0
    max_attempts: Annotated[int, Field(alias="BUNCE_MAX_ATTEMPTS", ge=1, le=1_000)] = 5
    retry_base_seconds: Annotated[Seconds, Field(alias="BUNCE_RETRY_BASE_SECONDS")] = 60.0
    retry_max_seconds: Annotated[Seconds, Field(alias="BUNCE_RETRY_MAX_SECONDS")] = 3600.0
    requests_per_minute: Annotated[int, Field(alias="BUNCE_REQUESTS_PER_MINUTE", ge=1, le=10_000_000)] = 475
    rate_limit_group: Annotated[str | None, Field(alias="BUNCE_RATE_LIMIT_GROUP")] = None
    max_concurrent_calls: Annotated[int, Field(alias="BUNCE_MAX_CONCURRENT_CALLS", ge=1, le=1_000)] = 10
    request_timeout_seconds: Annotated[PositiveSeconds, Field(alias="BUNCE_REQUEST_TIMEOUT_SECONDS")] = 10.0
    unknown_hold_seconds: Annotated[Seconds, Field(alias="BUNCE_UNKNOWN_HOLD_SECONDS")] = 10.0
    version_memory_seconds: Annotated[Seconds, Field(alias="BUNCE_VERSION_MEMORY_SECONDS")] = 3600.0
    dead_retention_days: Annotated[float, Field(alias="BUNCE_DEAD_RETENTION_DAYS", ge=0, allow_inf_nan=False)] = 0.0
    brake_share: Annotated[float, Field(alias="BUNCE_BRAKE_SHARE", gt=0, le=1)] = 0.5
    brake_min_rows: Annotated[int, Field(alias="BUNCE_BRAKE_MIN_ROWS", ge=1)] = 100
    split_calls_share: Annotated[float, Field(alias="BUNCE_SPLIT_CALLS_SHARE", gt=0, le=1)] = 0.2
    redis_high_water: Annotated[float, Field(alias="BUNCE_REDIS_HIGH_WATER", gt=0, le=1)] = 0.85
    message_events: Annotated[bool, Field(alias="BUNCE_MESSAGE_EVENTS")] = False
    log_format: Annotated[str, Field(alias="BUNCE_LOG_FORMAT", pattern="^(auto|json|console)$")] = "auto"
    log_level: Annotated[str, Field(alias="BUNCE_LOG_LEVEL", pattern="^(DEBUG|INFO|WARNING|ERROR)$")] = "INFO"

    @field_validator("api_url")
    @classmethod
    def _is_an_http_url(cls, url: str | None) -> str | None:
        if url is None:
            return None
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise PydanticCustomError(
                "url",
                "must be an http:// or https:// address, for example {example}",
                {"example": BASE_URLS[Environment.LIVE]},
            )
        if parts.username or parts.password or parts.query or parts.fragment:
            raise PydanticCustomError("url", "must be an address without user, query or fragment")
        try:
            _ = parts.port
        except ValueError as error:
            raise PydanticCustomError("url", "{reason}", {"reason": str(error)}) from None
        return url.rstrip("/")

    @field_validator("redis_url")
    @classmethod
    def _is_a_redis_url(cls, url: str) -> str:
        try:
            connect(url).close()
        except (UnusableRedisUrl, ValueError) as error:
            raise PydanticCustomError("url", "{reason}", {"reason": str(error)}) from None
        return url

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.retry_max_seconds < self.retry_base_seconds:
            raise PydanticCustomError(
                "retry", "BUNCE_RETRY_MAX_SECONDS is less than BUNCE_RETRY_BASE_SECONDS: raise one or lower the other"
            )
        return self

    @property
    def base_url(self) -> str:
        """Where the API is, without a trailing slash."""
        return self.api_url or BASE_URLS[self.env]

    @property
    def limit_group(self) -> str:
        """Namespaces of one Redis with the same group share the rate limit."""
        return self.rate_limit_group or urlsplit(self.base_url).hostname or "bunce"

    @property
    def lease_seconds(self) -> float:
        """How long the rows of a call are a worker's: two whole calls and 5 s for what lies around them."""
        return 2 * self.request_timeout_seconds + 5

    @property
    def remembered_seconds(self) -> float:
        """How long versions are remembered: at least so long that the newest quarters outlive a hold kept in them."""
        return max(self.version_memory_seconds, 8 * self.unknown_hold_seconds)

    @property
    def key(self) -> str:
        """The API key in clear, for the header alone.

        Raises:
            SettingsError: there is none.
        """
        if self.api_key is None:
            raise SettingsError(_NO_KEY)
        return self.api_key.get_secret_value()


_NO_KEY = (
    "BUNCE_API_KEY is missing: put the secret key of your Bunce account into the environment, into .env, "
    "or into a file that BUNCE_API_KEY_FILE names"
)


def load_settings(*, need_api_key: bool = False, **overrides: Any) -> Settings:
    """The settings of this process.

    Args:
        need_api_key: whether a missing API key is a fault; commands that never call the API go without.
        overrides: settings by field name that win over the environment.

    Raises:
        SettingsError: with every fault in one readable text.
    """
    faults: list[str] = []
    settings: Settings | None = None
    try:
        settings = Settings(**overrides)
    except ValidationError as error:
        for item in error.errors(include_url=False, include_context=False, include_input=False):
            field = str(item["loc"][0]) if item["loc"] else ""
            name = Settings.model_fields[field].alias if field in Settings.model_fields else field
            said = _FORMS.get(name or "") or _plain(item["msg"])
            faults.append(f"{name}: {said}" if name else said)
    if settings is not None:
        settings, key_faults = _with_key(settings, need_api_key=need_api_key)
        faults += key_faults
    elif need_api_key and not _any_key_named():
        faults.append(_NO_KEY)
    if faults or settings is None:
        raise SettingsError("The settings are wrong:\n" + "\n".join(f"  - {fault}" for fault in faults))
    return settings


def _any_key_named() -> bool:
    return bool(os.environ.get("BUNCE_API_KEY") or os.environ.get("BUNCE_API_KEY_FILE")) or Path(".env").exists()


_FORMS = {
    "BUNCE_NAMESPACE": "must be up to 100 letters, digits and . : _ -, the first a letter or a digit",
    "BUNCE_LOG_FORMAT": "must be auto, json or console",
    "BUNCE_LOG_LEVEL": "must be DEBUG, INFO, WARNING or ERROR",
}
_PLAIN = (
    ("Input should be a valid integer", "must be a whole number"),
    ("Input should be a valid number", "must be a number"),
    ("Input should be a valid boolean", "must be true or false"),
    ("Input should be greater than or equal to", "must be at least"),
    ("Input should be less than or equal to", "must be at most"),
    ("Input should be greater than", "must be more than"),
    ("Input should", "must"),
)


def _plain(message: str) -> str:
    for theirs, ours in _PLAIN:
        if message.startswith(theirs):
            return ours + message.removeprefix(theirs).partition(", ")[0]
    return message


_NO_SETTINGS = {"BUNCE_HEALTH_FILE", "BUNCE_EMBEDDED_REDIS", "BUNCE_IMAGE_TAG"}
_OF_KUBERNETES = "BUNCE_ATTRIBUTES_"
"""It tells containers of services by variables that begin with the service's name."""


def unknown_names() -> Iterator[str]:
    """Variables of the environment and of ``.env`` that look like settings and are none, each with what is meant.

    They stop nothing, for a newer release may know them; but a misspelt setting is one that does not hold.
    """
    known = {str(field.alias) for field in Settings.model_fields.values()} | _NO_SETTINGS
    given = {*os.environ, *(dotenv_values(".env") if Path(".env").is_file() else ())}
    for name in sorted(given):
        upper = name.upper()
        if upper.startswith("BUNCE_") and not upper.startswith(_OF_KUBERNETES) and upper not in known:
            meant = get_close_matches(upper, known, n=1, cutoff=0.8)
            yield f"{name} is no setting" + (f"; {meant[0]} is" if meant else "")


def _with_key(settings: Settings, *, need_api_key: bool) -> tuple[Settings, list[str]]:
    if settings.api_key is None and settings.api_key_file is not None:
        try:
            text = settings.api_key_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            if not need_api_key:
                return settings, []
            reason = error.strerror if isinstance(error, OSError) else "it is no text"
            return settings, [f"BUNCE_API_KEY_FILE: cannot read {settings.api_key_file}: {reason}"]
        settings = settings.model_copy(update={"api_key": SecretStr(text) if text else None})
    if settings.api_key is None:
        return settings, [_NO_KEY] if need_api_key else []
    key = settings.api_key.get_secret_value().strip()
    if not key:
        return settings.model_copy(update={"api_key": None}), [_NO_KEY] if need_api_key else []
    if not key.isascii() or not key.isprintable() or " " in key:
        return settings, ["BUNCE_API_KEY: holds a character that no HTTP header may carry; copy the key again"]
    settings = settings.model_copy(update={"api_key": SecretStr(key)})
    if settings.api_url is None:
        for environment, prefix in _KEY_PREFIXES.items():
            if key.startswith(prefix) and environment is not settings.env:
                return settings, [
                    f"BUNCE_API_KEY: this is a key of the {environment} environment ({prefix}…), "
                    f"but BUNCE_ENV is {settings.env}: set BUNCE_ENV={environment} or use the other key"
                ]
    return settings, []
