"""A stage for each test: its own Redis, its own sandbox, its own workers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from tests.acceptance.harness.stage import Stage

MakeStage = Callable[..., Stage]


@pytest.fixture
def make_stage(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[MakeStage]:
    """Stages that end with the test; a failed test shows what their workers said."""
    with ExitStack() as stack:
        made: list[Stage] = []

        def make(**options: Any) -> Stage:
            folder = tmp_path / f"stage{len(made)}"
            folder.mkdir()
            made.append(stack.enter_context(Stage(folder, **options)))
            return made[-1]

        yield make
        if getattr(request.node, "failed", False):
            for stage in made:
                stage.tell()


@pytest.fixture
def stage(make_stage: MakeStage) -> Stage:
    """A stage with quick settings."""
    return make_stage()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Notes on the test itself that it failed, for the fixture above."""
    report = yield
    if report.when == "call" and report.failed:  # type: ignore[attr-defined]  # the hook's result is a TestReport
        item.failed = True  # type: ignore[attr-defined]  # ours
    return report
