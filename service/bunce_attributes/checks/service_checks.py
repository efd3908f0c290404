"""The API key, the workers and their settings, and what `status` shows that wants a look."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

from bunce_attributes.answers import Answer
from bunce_attributes.bunce_api import BunceApi
from bunce_attributes.checks.findings import Finding, fault, ok, warning
from bunce_attributes.checks.redis_checks import MOST_SKEW_SECONDS, clock
from bunce_attributes.outbox.outbox import Outbox
from bunce_attributes.settings import BASE_URLS, Settings, unknown_names
from bunce_attributes.status import Snapshot, WorkerSeen
from bunce_attributes.status_page import duration, words_for
from bunce_attributes.worker.heartbeat import SILENT_AFTER_SECONDS, shared_settings

LONGEST_WAIT_SECONDS = 5.0
"""For a permit: the check obeys the rate limit like everybody."""
DOCUMENTED_LIMIT = 500
_SHOWN_CHARACTERS = 200


def settings_found(settings: Settings) -> Iterator[Finding]:
    """What the settings say, where it is doubtful."""
    yield ok("settings", f"namespace {settings.namespace}, API {settings.base_url}")
    for said in unknown_names():
        yield warning("settings", said, "Correct its name or remove it: as it is it has no effect.")
    hosts = {urlsplit(url).hostname for url in BASE_URLS.values()}
    if settings.requests_per_minute > DOCUMENTED_LIMIT and urlsplit(settings.base_url).hostname in hosts:
        yield warning(
            "settings",
            f"BUNCE_REQUESTS_PER_MINUTE is {settings.requests_per_minute}; the documented limit is {DOCUMENTED_LIMIT}",
            "Lower it, unless the vendor allows you more: one overrun costs a minute.",
        )


def api(outbox: Outbox, settings: Settings, *, sleep: Callable[[float], None] = time.sleep) -> Iterator[Finding]:
    """Whether the API accepts the key: one harmless request, under the rate limit.

    Raises:
        redis.exceptions.RedisError: Redis is out of reach.
    """
    if settings.api_key is None:
        file = settings.api_key_file
        found = (
            f"there is no API key: {file} is not there, is empty or may not be read" if file else "there is no API key"
        )
        yield fault("API", found, "Set BUNCE_API_KEY, or BUNCE_API_KEY_FILE.")
        return
    waited = 0.0
    while (wait := outbox.take_permit(f"check-{uuid4().hex}")) > 0:
        if waited + wait > LONGEST_WAIT_SECONDS:
            yield warning(
                "API", f"not asked: the rate limit allows no request for {duration(wait)}", "Run the check again then."
            )
            return
        sleep(wait)
        waited += wait
    client = BunceApi(settings.base_url, settings.key)
    try:
        answer = client.look(settings.request_timeout_seconds)
    finally:
        client.close()
    yield (
        _judge(answer, settings)
        if isinstance(answer, Answer)
        else fault(
            "API",
            f"{settings.base_url}: {answer.message}",
            "Look at the network, a proxy or firewall, and BUNCE_API_URL.",
        )
    )


def _judge(answer: Answer, settings: Settings) -> Finding:
    said = _said(answer)
    where = f"{settings.base_url} answers HTTP {answer.status}{f' ({said})' if said else ''}"
    match answer.status:
        case status if 200 <= status < 300:
            if _json(answer) is None:
                return fault("API", f"{where}, but no JSON", "See that BUNCE_API_URL leads to the API, not to a page.")
            return ok("API", f"{settings.base_url} accepts the key")
        case 401:
            whose = settings.base_url if settings.api_url else f"the environment {settings.env.value}"
            return fault("API", where, f"Set the key of {whose} in BUNCE_API_KEY.")
        case 429:
            return warning(
                "API", where, "Something else calls the API from this address: lower BUNCE_REQUESTS_PER_MINUTE."
            )
        case status if status >= 500:
            return fault("API", where, "The API is out of order: wait, or ask the vendor.")
    return fault("API", where, "Check BUNCE_API_URL, BUNCE_ENV and what the key may do.")


def _json(answer: Answer) -> Any:
    try:
        return json.loads(answer.body)
    except (ValueError, RecursionError):
        return None


def _said(answer: Answer) -> str:
    body = _json(answer)
    message = body.get("message") if isinstance(body, Mapping) else None
    return message[:_SHOWN_CHARACTERS] if isinstance(message, str) and answer.status >= 300 else ""


def workers(seen: tuple[WorkerSeen, ...], settings: Settings) -> Iterator[Finding]:
    """Whether there are workers, and whether their settings are those of this environment."""
    alive = [one for one in seen if one.age_seconds < SILENT_AFTER_SECONDS]
    if not alive:
        yield warning("workers", "none gave a sign of life", "Start `bunce-attributes worker`.")
    else:
        yield ok("workers", f"{len(alive)} at work: {', '.join(one.name for one in alive)}")
    for one in seen:
        if one not in alive:
            yield warning(
                "workers",
                f"{one.name} has been silent for {duration(one.age_seconds)}",
                "Its rows come back by themselves; see why it stopped.",
            )
        if -one.age_seconds > MOST_SKEW_SECONDS:
            yield clock(-one.age_seconds, one.name)
    versions = sorted({one.version for one in alive})
    if len(versions) > 1:
        yield warning("workers", f"releases {', '.join(versions)} run side by side", "Finish the upgrade.")
    here = _named(shared_settings(settings))
    for one in alive:
        there = _named(one.settings)
        differing = [
            f"{name} is {_shown(name, there[name])} there and {_shown(name, here[name])} here"
            for name in sorted(here.keys() & there.keys())
            if here[name] != there[name]
        ]
        if differing:
            yield fault(
                "settings",
                f"{one.name} has other settings: {'; '.join(differing)}",
                "Give all workers and commands the same settings, and restart what is wrong.",
            )


def _named(values: Mapping[str, object]) -> dict[str, object]:
    """By the name of the environment variable."""
    named = {}
    for field, value in values.items():
        known = Settings.model_fields.get(field)
        named["BUNCE_API_KEY" if field == "key_digest" else str(known.alias) if known is not None else field] = value
    # What follows from others would be told twice.
    for derived in ("base_url", "limit_group"):
        named.pop(derived, None)
    return named


def _shown(name: str, value: object) -> str:
    if value is None:
        return "not set"
    return "another one" if name == "BUNCE_API_KEY" else str(value)


def standing(snapshot: Snapshot) -> Iterator[Finding]:
    """What `status` shows that wants a look."""
    if snapshot.gate.is_open:
        yield ok("gate", "calls are made")
    else:
        words = words_for(snapshot.gate.reason)
        said = f": {snapshot.gate.detail}" if snapshot.gate.detail else ""
        found = f"no calls are made, because {words.why}{said}"
        grave = snapshot.gate.reason in {"misconfigured", "unreadable"}
        yield (fault if grave else warning)("gate", found, words.mend)
    for one in snapshot.paused_attributes:
        yield warning(
            "paused attribute",
            f"{one.attribute} by {'an operator' if one.by == 'operator' else 'the brake'} since {one.since}, "
            f"{one.waiting:,} rows wait",
            "`bunce-attributes status` tells what the API says, and how to go on.",
        )
    if snapshot.intake_waits_because:
        yield warning("queue", f"not read: {snapshot.intake_waits_because}", "See `bunce-attributes status`.")
    if snapshot.dead:
        yield warning(
            "dead letters", f"{snapshot.dead:,} are kept", "`bunce-attributes dead list` shows them and why they died."
        )
    else:
        yield ok("dead letters", "none")
