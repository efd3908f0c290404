"""The rows that every contender delivers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

ATTRIBUTE = "9f171295-6935-400c-af6b-fd628a46bc71"
KEY = "sk_test_benchmark"
ROWS_A_CALL = 100


def row(number: int, value: str = "") -> dict[str, Any]:
    """The row of one customer of his own."""
    return {"id": ATTRIBUTE, "customer_id": f"customer-{number}", "value": value or f"value {number}"}


def rows(count: int) -> Iterator[dict[str, Any]]:
    """As many rows, each with a key of its own."""
    return (row(number) for number in range(count))
