"""Tells when the pin of Celery can go: the newest one from the package index, laid over the installed one.

Celery 5.7.0 with kombu's own bookkeeping ends its worker when Redis goes away while a task runs
(docs/architecture.md, "Why Celery 5.6"). Only in `make soak`, because it needs a package index.
"""

from __future__ import annotations

import re
import subprocess
import sys
import warnings
from importlib.metadata import requires
from pathlib import Path

import pytest
from tests.acceptance.conftest import MakeStage
from tests.acceptance.test_redis_faults import kill_redis_twice_under_load

KILLS = 3


@pytest.fixture(scope="module")
def newest(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder with the newest Celery and what it needs, and its release."""
    folder = tmp_path_factory.mktemp("celery")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--upgrade"]
    subprocess.run([*pip, "--target", str(folder), "celery", "kombu[redis]"], check=True, timeout=300)
    release = next(folder.glob("celery-*.dist-info")).name.split("-")[1].removesuffix(".dist")
    return folder, release


def our_limit() -> tuple[int, int]:
    """The first release of Celery that our requirements shut out, as (major, minor)."""
    ours = next(text for text in requires("bunce-attributes") or [] if text.startswith("celery"))
    found = re.search(r"<(\d+)\.(\d+)", ours)
    assert found is not None, f"no upper limit in {ours!r}: this canary has done its work and can go"
    return int(found[1]), int(found[2])


@pytest.mark.soak
@pytest.mark.parametrize("pool", ["threads", "prefork"])
def test_the_newest_celery_survives_a_redis_that_goes(
    make_stage: MakeStage, newest: tuple[Path, str], pool: str
) -> None:
    """Expected to fail as long as the limit in pyproject.toml is needed; a warning tells when it no longer is."""
    folder, release = newest
    for _ in range(KILLS):
        stage = make_stage(sandbox=("--latency", "0.3"))
        worker = stage.start(pool=pool, concurrency=3, PYTHONPATH=str(folder)).ready()
        try:
            kill_redis_twice_under_load(stage)
        except AssertionError:
            if worker.alive:
                raise
        if not worker.alive:
            pytest.xfail(f"Celery {release} ends its worker when Redis goes ({pool}): the limit must stay")
        stage.drain(seconds=60)
        assert stage.findings().all == ()
    major, minor = (int(part) for part in release.split(".")[:2])
    if (major, minor) >= our_limit():
        text = f"Celery {release} survived {2 * KILLS} losses of Redis ({pool}): try all tests with a higher limit"
        warnings.warn(text, stacklevel=1)
