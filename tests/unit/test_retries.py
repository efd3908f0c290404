"""When a refused row is sent again, and when it is given up."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bunce_attributes.retries import GiveUp, RetryLater, RetryPolicy, next_step

POLICY = RetryPolicy(max_attempts=5, base_seconds=60, max_seconds=3600)


def whole(attempts: int, policy: RetryPolicy = POLICY) -> float:
    step = next_step(attempts, policy, 1.0)
    assert isinstance(step, RetryLater)
    return step.delay_seconds


def test_the_delay_doubles_up_to_the_maximum() -> None:
    policy = RetryPolicy(max_attempts=100, base_seconds=60, max_seconds=3600)
    assert [whole(n, policy) for n in (1, 2, 3, 6, 7, 8, 99)] == [60, 120, 240, 1920, 3600, 3600, 3600]


def test_jitter_lies_between_half_and_the_whole() -> None:
    assert next_step(1, POLICY, 0.0) == RetryLater(30.0)
    assert next_step(1, POLICY, 0.5) == RetryLater(45.0)
    assert next_step(1, POLICY, 1.0) == RetryLater(60.0)


def test_the_fifth_refusal_of_five_is_the_last() -> None:
    assert isinstance(next_step(4, POLICY, 0.5), RetryLater)
    assert next_step(5, POLICY, 0.5) == GiveUp(5)


def test_a_limit_lowered_below_the_attempts_made_gives_up() -> None:
    assert next_step(7, POLICY, 0.5) == GiveUp(7)


def test_one_attempt_means_no_retry() -> None:
    assert next_step(1, RetryPolicy(1, 60, 3600), 0.5) == GiveUp(1)


@pytest.mark.parametrize("attempts", [1_000, 5_000])
def test_a_thousand_attempts_are_no_overflow(attempts: int) -> None:
    assert whole(attempts, RetryPolicy(10_000, 0.001, 3600)) == 3600


@given(jitter=st.floats(0, 1), base=st.floats(0, 1e6), most=st.floats(0, 1e8))
def test_delays_never_shrink_with_attempts_nor_exceed_the_maximum(jitter: float, base: float, most: float) -> None:
    policy = RetryPolicy(50, base, max(base, most))
    delays = [step.delay_seconds for n in range(1, 50) if isinstance(step := next_step(n, policy, jitter), RetryLater)]
    assert len(delays) == 49
    assert all(0 <= a <= b <= policy.max_seconds for a, b in pairwise(delays))
