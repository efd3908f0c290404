"""Two releases on one outbox: data of an older layout is read, and a later layout is left alone (docs/upgrading.md)."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Callable
from pathlib import Path

import pytest
from redis import Redis, ResponseError
from tests.redis.stored_layout import BRAKED, FOLDER, NOW_MS, dump, fill, load, path, stored_settings

from bunce_attributes.connections import explain
from bunce_attributes.dead_letters.filters import Filter
from bunce_attributes.dead_letters.store import DeadLetters
from bunce_attributes.decisions import Rest, Settlement, Verdict, decide
from bunce_attributes.intake import LEASE_MS, Intake
from bunce_attributes.outbox import outbox as outbox_module
from bunce_attributes.outbox.outbox import ClaimedCall, IntakeBatch, Outbox
from bunce_attributes.outbox.scripts import Script, source
from bunce_attributes.outcomes import Processed
from bunce_attributes.retries import RetryPolicy
from bunce_attributes.worker.heartbeat import READS_LAYOUT

LATER_MS = NOW_MS + 3_600_000
POLICY = RetryPolicy(2, 30.0, 30.0)


def deliver_everything(outbox: Outbox) -> dict[str, str]:
    """Calls that all pass, until nothing is due; customer → the last value sent."""
    sent: dict[str, str] = {}
    for number in range(100):
        outbox.now_ms += 61_000
        claim = outbox.claim_call(f"later call {number}", "no token")
        if isinstance(claim, ClaimedCall):
            for row in claim.rows:
                body = json.loads(row.body)
                sent[body["customer_id"]] = body["value"]
            outbox.settle(claim.id, decide(Processed(200, {}), claim.rows, claim.history, POLICY, lambda: 0.5), {})
        elif not outbox.status()["waiting"]:
            break
    return sent


@pytest.mark.parametrize("stored", sorted(FOLDER.glob("layout-*.json")), ids=lambda stored: stored.stem)
def test_data_of_every_layout_so_far_is_read(redis_client: Redis, redis_url: str, stored: Path) -> None:
    load(redis_client, json.loads(stored.read_text(encoding="utf-8")))
    settings = stored_settings(redis_url)
    outbox = Outbox(redis_client, settings, now_ms=LATER_MS)
    letters = DeadLetters(outbox, settings.remembered_seconds)
    before = outbox.status()
    assert (before["waiting"], before["dead"], before["queued_messages"]) == (8, 3, 1)

    Intake(outbox, row_limit_bytes=settings.batch_max_bytes).run()
    outbox.resume(BRAKED)
    kinds = sorted(letter.reason_class for letter in letters.read(letters.find(Filter())))
    assert kinds == ["attempts", "invalid", "unreadable"]
    assert letters.replay(letters.find(Filter(reasons=frozenset({"attempts"})))).updates == 1
    assert deliver_everything(outbox) == {
        **dict.fromkeys(("retried", "group 1", "group 2", "braked", "live", "bulk", "queued", "dead"), "1"),
        "in a call": "2",
    }
    counts = outbox.status()["counts"]
    assert counts["received"] == counts["saved"] + counts["superseded"] + counts["purged"] + outbox.status()["dead"]


def test_every_layout_has_its_file() -> None:
    assert all(path(layout).exists() for layout in range(1, READS_LAYOUT + 1))


def test_this_release_writes_the_layout_of_the_stored_file(redis_client: Redis, redis_url: str) -> None:
    """Fails when the scripts write other bytes: a new layout needs a number and a file of its own."""
    settings = stored_settings(redis_url)
    fill(redis_client, settings)
    packed = ("rows", "call:", "ready:", "later", "seen:", "dead")

    def layout(stored: dict[str, object]) -> dict[str, object]:
        names = {b64decode(name).decode().removeprefix(f"{settings.namespace}:"): name for name in stored}
        return {short: stored[name] for short, name in names.items() if short.startswith(packed)}

    written = layout(json.loads(json.dumps(dump(redis_client))))
    assert written == layout(json.loads(path(READS_LAYOUT).read_text(encoding="utf-8")))
    assert len(written) >= 9


def verbs(outbox: Outbox, letters: DeadLetters) -> dict[str, Callable[[], object]]:
    settlement = Settlement(Verdict.PASSED, Rest.SAVED)
    return {
        "claim_messages": lambda: outbox.claim_messages(
            "t", lease_ms=1, most_messages=1, most_bytes=1, largest=1_000_000
        ),
        "accept": lambda: outbox.accept("t", outbox.namespace.encode(), IntakeBatch(), lease_ms=LEASE_MS),
        "release": lambda: outbox.release_messages("t"),
        "poll": lambda: outbox.poll([]),
        "claim": lambda: outbox.claim_call("c", "t"),
        "settle": lambda: outbox.settle(f"call at {NOW_MS}", settlement, {"calls": 1}),
        "permit": lambda: outbox.take_permit("p"),
        "status": outbox.status,
        "pause": outbox.pause,
        "resume": outbox.resume,
        "replay": lambda: letters.replay(["1"]),
        "purge": lambda: letters.purge(["1"]),
    }


def test_an_outbox_of_a_later_layout_is_left_untouched(redis_client: Redis, redis_url: str) -> None:
    """A worker of this release that meets the next one's data is refused before any write, and is told the mend."""
    settings = stored_settings(redis_url)
    fill(redis_client, settings)
    redis_client.hset(f"{settings.namespace}:versions", "layout", READS_LAYOUT + 1)
    outbox = Outbox(redis_client, settings, now_ms=LATER_MS)
    before = dump(redis_client)
    for name, verb in verbs(outbox, DeadLetters(outbox, 3600.0)).items():
        with pytest.raises(ResponseError, match="later release") as refused:
            verb()
        assert "upgrade this one" in explain(refused.value, redis_url), name
    assert dump(redis_client) == before


def test_every_script_looks_at_the_layout_first() -> None:
    for script in Script:
        text = source(script)
        assert text.index("K.versions, 'layout'") < text.index("redis.call('DEL'"), script


def test_the_next_release_goes_on_while_this_one_waits(
    redis_client: Redis, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in for the next release: it reads layouts 1 and 2, writes 2, and says so. Nothing is lost."""
    settings = stored_settings(redis_url)
    fill(redis_client, settings)
    outbox = Outbox(redis_client, settings, now_ms=LATER_MS)

    def next_source(script: Script) -> str:
        text = source(script).replace("local LAYOUT = 1", "local LAYOUT = 2")
        return text.replace("if string.byte(text, 1) ~= LAYOUT then", "if string.byte(text, 1) > LAYOUT then")

    monkeypatch.setattr(outbox_module, "source", next_source)
    upgraded = Outbox(redis_client, settings, now_ms=LATER_MS)
    redis_client.hset(f"{settings.namespace}:versions", "layout", 2)

    with pytest.raises(ResponseError, match="later release"):
        outbox.claim_call("of the old worker", "no token")
    Intake(upgraded, row_limit_bytes=settings.batch_max_bytes).run()
    records = redis_client.hvals(f"{settings.namespace}:rows")
    assert {record[0] for record in records} == {1, 2}, "both layouts lie there"
    upgraded.resume(BRAKED)
    assert len(deliver_everything(upgraded)) == 8
    assert upgraded.status()["waiting"] == 0
