"""The brake on dead-lettering: when most rows of an attribute are refused, the attribute is wrong, not each row."""

from __future__ import annotations

from typing import Any

import pytest
from redis import Redis
from tests.redis.world import ATTRIBUTE, OTHER_ATTRIBUTE, Row, World, row

from bunce_attributes.outcomes import CallOutcome, Processed, RefusedCall

HOUR_MS = 3_600_000
SAVED = Processed(200, {})


@pytest.fixture
def world(redis_client: Redis) -> World:
    return World(redis_client)


def wrong(rows: list[Row]) -> CallOutcome:
    """An API that knows the other attribute alone."""
    return Processed(200, {i: "no such attribute" for i, r in enumerate(rows) if r["id"] == ATTRIBUTE})


def brakes(world: World) -> list[dict[str, Any]]:
    return list(world.outbox.status()["brakes"])


def other(n: object) -> Row:
    return {**row(n), "id": OTHER_ATTRIBUTE}


def test_an_import_with_a_wrong_id_pauses_its_attribute_and_buries_nothing(world: World) -> None:
    world.enqueue(*(row(n) for n in range(1_000)), *(other(n) for n in range(1_000)), lane="bulk")
    world.run(wrong, until_ms=12 * HOUR_MS)
    assert world.dead() == []
    (brake,) = brakes(world)
    assert (brake["attribute"], brake["by"], brake["saved"]) == (ATTRIBUTE, "brake", 0)
    assert brake["refused"] >= 100
    assert brake["waiting"] == 1_000
    assert world.counts()["saved"] == 1_000, "the others go on"
    world.check()


def test_fewer_rows_than_the_minimum_pull_no_brake(world: World) -> None:
    world.enqueue(*(row(n) for n in range(99)))
    world.run(wrong, until_ms=12 * HOUR_MS)
    assert len(world.dead()) == 99
    assert brakes(world) == []


def test_a_share_below_the_threshold_pulls_no_brake(world: World) -> None:
    world.enqueue(*(row(n) for n in range(1_000)))

    def api(rows: list[Row]) -> CallOutcome:
        return Processed(200, {i: "no" for i, r in enumerate(rows) if int(r["customer_id"]) % 5 < 2})

    world.run(api, until_ms=12 * HOUR_MS)
    assert len(world.dead()) == 400
    assert brakes(world) == []


def test_the_same_rows_refused_again_and_again_pull_no_brake(world: World) -> None:
    """Thirty bad rows are thirty bad rows, however often they are tried."""
    world.enqueue(*(row(n) for n in range(30)))
    world.run(wrong, until_ms=12 * HOUR_MS)
    assert len(world.dead()) == 30


def test_rows_refused_alone_count_too(world: World) -> None:
    world.enqueue(*(row(n) for n in range(300)))
    world.run(lambda rows: RefusedCall(422, "no such attribute"), until_ms=12 * HOUR_MS)
    assert len(world.dead()) < 150
    assert len(brakes(world)) == 1
    world.check()


def test_resume_goes_on_and_pulls_the_brake_again_if_nothing_was_mended(world: World) -> None:
    world.enqueue(*(row(n) for n in range(400)))
    world.run(wrong, until_ms=HOUR_MS)
    assert world.outbox.resume(ATTRIBUTE)
    assert brakes(world) == []
    world.check()
    world.run(wrong, until_ms=3 * HOUR_MS)
    assert len(brakes(world)) == 1
    world.outbox.resume(ATTRIBUTE)
    world.run(lambda rows: SAVED, until_ms=world.ms + 2 * HOUR_MS)
    assert world.counts()["saved"] == 400
    assert world.dead() == []
    world.check()


def test_resume_with_bury_lets_them_die(world: World) -> None:
    world.enqueue(*(row(n) for n in range(400)))
    world.run(wrong, until_ms=HOUR_MS)
    assert world.outbox.resume(ATTRIBUTE, bury=True)
    world.run(wrong, until_ms=world.ms + 12 * HOUR_MS)
    assert len(world.dead()) == 400
    assert brakes(world) == []
    world.check()


def test_resume_moves_many_thousands_of_rows(world: World) -> None:
    world.outbox.pause(ATTRIBUTE)
    world.enqueue(*(row(n) for n in range(3_500)))
    assert world.outbox.status()["braked"] == 3_500
    assert world.outbox.resume(ATTRIBUTE)
    assert world.outbox.status()["braked"] == 0
    world.run(lambda rows: SAVED, until_ms=60_000)
    assert world.counts()["saved"] == 3_500
    world.check()


def test_an_attribute_paused_by_hand_waits_and_its_newest_values_are_kept(world: World) -> None:
    assert world.outbox.pause(ATTRIBUTE)
    world.enqueue(row(1, "a"), other(1))
    world.enqueue(row(1, "b"))
    calls = world.run(lambda rows: SAVED, until_ms=HOUR_MS)
    assert calls == [[other(1)]]
    world.check()
    assert not world.outbox.resume(OTHER_ATTRIBUTE)
    assert world.outbox.resume(ATTRIBUTE)
    assert world.run(lambda rows: SAVED, until_ms=2 * HOUR_MS) == [[row(1, "b")]]


def test_rows_of_a_braked_attribute_in_every_place_wait_until_it_is_resumed(world: World) -> None:
    world.enqueue(*(row(n) for n in range(4)), *(row(n) for n in range(100, 104)))
    world.ms += 1_000
    world.call(RefusedCall(422, "no"))
    half = world.must_claim()
    world.outbox.pause(ATTRIBUTE)
    world.settle(half, Processed(200, {0: "no"}))
    world.run(lambda rows: SAVED, until_ms=HOUR_MS)
    assert world.outbox.status()["waiting"] == 5
    world.check()
    world.outbox.resume(ATTRIBUTE)
    world.run(lambda rows: SAVED, until_ms=2 * HOUR_MS)
    assert world.counts()["saved"] == 8
    world.check()


def test_thousands_of_braked_rows_in_front_do_not_hold_up_the_others(world: World) -> None:
    world.enqueue(*(row(n) for n in range(8_000)), other(1))
    world.outbox.pause(ATTRIBUTE)
    calls = world.run(lambda rows: SAVED, until_ms=5_000)
    assert calls == [[other(1)]]
    assert world.outbox.status()["braked"] == 8_000
    world.check()


def test_old_refusals_are_forgotten(world: World) -> None:
    world.enqueue(*(row(n) for n in range(90)))
    world.run(wrong, until_ms=2_000)
    world.ms += 2 * HOUR_MS
    world.outbox.poll([])
    world.enqueue(*(row(f"b{n}") for n in range(90)))
    world.run(wrong, until_ms=world.ms + 5_000)
    assert brakes(world) == []
