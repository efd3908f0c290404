"""The tests that docs/guarantees.md and docs/upgrading.md name are there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def existing_tests() -> set[str]:
    return {
        node.name
        for path in (ROOT / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


def named_tests(page: str) -> set[str]:
    return set(re.findall(r"`(test_\w+)`", (ROOT / "docs" / page).read_text(encoding="utf-8")))


@pytest.mark.parametrize("page", ["guarantees.md", "upgrading.md"])
def test_every_test_that_the_page_names_exists(page: str) -> None:
    named = named_tests(page)
    assert len(named) >= 5
    assert named - existing_tests() == set()


def test_every_guarantee_says_what_the_reader_must_do_and_which_tests_keep_it() -> None:
    text = (ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8")
    sections = re.split(r"^## (?=\d\. )", text, flags=re.MULTILINE)[1:]
    assert len(sections) == 8
    for section in sections:
        title, body = section.split("\n", 1)
        assert body.lstrip().startswith("**"), f"{title}: the guarantee comes first, and in bold"
        assert "\nYou must: " in body, title
        assert "\nTests: `test_" in body, title
