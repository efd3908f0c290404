"""The built wheel holds what runs: a script of Lua that is missing fails here and not in production."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "service" / "bunce_attributes"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> ZipFile:
    if find_spec("hatchling") is None:
        pytest.skip("hatchling, which builds the wheel, is not installed")
    folder = tmp_path_factory.mktemp("wheel")
    # In a process of its own: the build back end changes into the project's folder.
    code = f"import hatchling.build; print(hatchling.build.build_wheel({str(folder)!r}))"
    built = subprocess.run(
        [sys.executable, "-c", code], check=False, cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert built.returncode == 0, built.stderr
    return ZipFile(folder / built.stdout.split()[-1])


def test_every_file_of_the_package_is_in_the_wheel(wheel: ZipFile) -> None:
    files = {
        path.relative_to(PACKAGE.parent).as_posix()
        for path in PACKAGE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {name for name in files if name.endswith(".lua")}, "there are scripts to look for"
    assert "bunce_attributes/py.typed" in files
    assert files - set(wheel.namelist()) == set()


def test_every_script_can_be_read_from_the_wheel(wheel: ZipFile) -> None:
    """In a fresh interpreter that sees the wheel alone."""
    code = (
        "import sys; sys.path[:0] = [sys.argv[1]]; import bunce_attributes.outbox.scripts as s;"
        "assert s.__file__.startswith(sys.argv[1]), s.__file__;"
        "print(sum(bool(s.source(script)) for script in s.Script), len(s.Script))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(wheel.filename)],
        check=False,
        cwd="/",
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    read, there = done.stdout.split()
    assert read == there


def test_a_producer_needs_neither_celery_nor_a_web_server(wheel: ZipFile) -> None:
    name = next(name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    needed = [
        line.split(":", 1)[1].strip()
        for line in wheel.read(name).decode().splitlines()
        if line.startswith("Requires-Dist:") and "extra ==" not in line
    ]
    assert sorted(need.split("<")[0].split(">")[0] for need in needed) == ["pydantic", "redis"]


def test_the_command_is_there(wheel: ZipFile) -> None:
    name = next(name for name in wheel.namelist() if name.endswith(".dist-info/entry_points.txt"))
    assert "bunce-attributes = bunce_attributes.cli:main" in wheel.read(name).decode()
