"""The documentation against the code: names, defaults, links, commands."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import pytest

from bunce_attributes.cli import COMMANDS
from bunce_attributes.settings import Settings
from bunce_attributes.version import __version__

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "service" / "bunce_attributes"
PAGES = sorted(
    [ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "deploy").glob("*.md")]
)
SETTINGS_PAGE = ROOT / "docs" / "settings.md"
# Not for users: injects a death for the crash tests.
INTERNAL_VARIABLES = {"BUNCE_TEST_KILL_AT"}
_ROW = re.compile(r"^\| `([A-Z_]+)` \| (.+?) \|", re.MULTILINE)
_VARIABLE = re.compile(r"\b(?:BUNCE_[A-Z0-9_]*[A-Z0-9]|REDIS_URL)\b")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
# Not after -n, where it is Kubernetes' namespace.
_COMMAND = re.compile(r"(?<!-n )\bbunce-attributes ([a-z]+)\b")


@dataclass(frozen=True)
class Documented:
    """A row of a table of settings."""

    name: str
    default: str


def documented(page: Path) -> Iterator[Documented]:
    tables = page.read_text(encoding="utf-8").partition("## Variables that are no settings")[0]
    for name, default in _ROW.findall(tables):
        yield Documented(name, default.strip("`"))


def default_of(name: str) -> str:
    for field in Settings.model_fields.values():
        if field.alias == name:
            default = field.default
            if name == "BUNCE_RATE_LIMIT_GROUP":
                return "host of the address"
            if isinstance(default, bool):
                return str(default).lower()
            return "–" if default is None else default.value if isinstance(default, StrEnum) else str(default)
    raise KeyError(name)


def code(text: str) -> str:
    """What stands in code spans and code blocks: only there do words name commands."""
    return "\n".join(re.findall(r"```.*?```|`[^`\n]*`", text, flags=re.DOTALL))


def without_code(text: str) -> str:
    return re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.DOTALL)


def anchors(page: Path) -> set[str]:
    """The names that a forge gives to the headings of a page."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        name = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        number = 0
        while (name if not number else f"{name}-{number}") in found:
            number += 1
        found.add(name if not number else f"{name}-{number}")
    return found


def test_every_setting_is_documented_once_with_its_default() -> None:
    table = list(documented(SETTINGS_PAGE))
    assert sorted(row.name for row in table) == sorted(str(field.alias) for field in Settings.model_fields.values())
    assert {row.name: row.default for row in table} == {row.name: default_of(row.name) for row in table}


def test_the_readme_shows_settings_with_their_defaults() -> None:
    table = list(documented(ROOT / "README.md"))
    assert table
    assert {row.name: row.default for row in table} == {row.name: default_of(row.name) for row in table}


def test_every_variable_that_the_code_reads_is_documented() -> None:
    text = SETTINGS_PAGE.read_text(encoding="utf-8")
    for file in PACKAGE.rglob("*.py"):
        for name in set(_VARIABLE.findall(file.read_text(encoding="utf-8"))) - INTERNAL_VARIABLES:
            assert f"`{name}`" in text, f"{file.relative_to(ROOT)} names {name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in _LINK.findall(without_code(page.read_text(encoding="utf-8"))):
        if "://" in link or link.startswith("mailto:"):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name} links to {link}"
        if anchor:
            assert anchor in anchors(target), f"{page.name} links to {link}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_page_names_a_command_or_a_setting_that_does_not_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert set(_COMMAND.findall(code(text))) <= {*COMMANDS, "worker"}, page.name
    known = set(_VARIABLE.findall(SETTINGS_PAGE.read_text(encoding="utf-8")))
    # Names of docker-compose.yml and of the deployment's own are described there.
    allowed = known | {"BUNCE_IMAGE_TAG"}
    if page.parent.name != "deploy":
        assert set(_VARIABLE.findall(text)) <= allowed, page.name


def test_every_make_target_that_is_documented_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for page in PAGES:
        for line in re.findall(r"(?:^|`)make ([a-z]+)", code(page.read_text(encoding="utf-8")), re.MULTILINE):
            assert line in targets, f"{page.name}: make {line}"


def test_the_architecture_names_every_module() -> None:
    """A reader who looks for a rule finds its place; a module that is gone leaves the page too."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    text = text.partition("\n## Modules\n")[2].partition("\n## ")[0]
    named = set(re.findall(r"^\| `([a-z_/]+(?:\.py)?)`", text, re.MULTILINE))
    there = {f"{path.name}/" for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    there |= {path.name for path in PACKAGE.glob("*.py") if path.name != "__init__.py"}
    assert named == there


def test_the_architecture_gives_a_reason_for_every_dependency() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["service"]]
    wanted += project["optional-dependencies"]["flower"]
    for requirement in wanted:
        name = re.split(r"[\[><=;]", requirement)[0].strip()
        assert re.search(rf"^\| `{re.escape(name)}", text, re.MULTILINE), name


def test_the_changelog_tells_of_this_release() -> None:
    assert re.search(
        rf"^## \[?{re.escape(__version__)}\]?", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE
    )


def test_the_output_in_the_readme_is_that_of_the_example() -> None:
    lines = (ROOT / "examples" / "updates.csv").read_text(encoding="utf-8").count("\n") - 1
    assert f"all {lines:,} rows compared, no difference" in (ROOT / "README.md").read_text(encoding="utf-8")
