"""A private Redis for the demo and the tests: started, restarted, killed and cleaned up by this process.

    with EmbeddedRedis() as server:
        server.client().ping()

It listens on one private door, a TCP port of 127.0.0.1 behind a random password or a unix socket that only this user
can open, and it ends with this process, however that ends.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import random
import secrets
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal, Self
from urllib.parse import quote

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from bunce_attributes.embedded_redis.binary import find_server
from bunce_attributes.embedded_redis.errors import EmbeddedRedisError, ServerDidNotStartError
from bunce_attributes.embedded_redis.process import ServerProcess

LONGEST_SOCKET_PATH: Final = 99  # bytes; sockaddr_un holds 104 on macOS and 108 on Linux, the closing zero included

# Below the ports that Linux (32768 up) and macOS (49152 up) give to outgoing connections: while the server is down,
# nothing else is handed its port, and a client that keeps trying to reconnect cannot end up connected to itself.
_PORTS: Final = range(20_000, 32_000)


class EmbeddedRedis:
    """A Redis server of our own, with an append-only file, ``noeviction`` and no snapshots.

    ``start``, ``stop`` and ``kill`` may alternate: folder, door and password stay the same, so clients find their
    data and their server again. ``close``, the end of the ``with`` block, or the end of the process end it for good.
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        appendfsync: Literal["always", "everysec", "no"] = "always",
        unix_socket: bool = False,
        port: int | None = None,
        config: Mapping[str, str | int] | None = None,
        start_seconds: float = 30.0,
    ) -> None:
        """Finds the server; starts nothing yet.

        Args:
            folder: where the append-only file, the configuration and the log are, made if missing and kept;
                without it a temporary one, removed by ``close``.
            appendfsync: when writes reach the disk; ``always`` before they are answered.
            unix_socket: listen on a unix socket and no TCP port. Celery's transport wants TCP.
            port: the TCP port; without it a free one is chosen.
            config: further lines of the configuration, by their names in ``redis.conf``, for example
                ``{"maxmemory": "50mb"}``; they win over ours.
            start_seconds: how long ``start`` waits, loading of the append-only file included.

        Raises:
            NoServerFoundError: this machine has no server of the needed version.
        """
        self.binary = find_server()
        self._temporary: list[Path] = []
        self.folder = folder.absolute() if folder is not None else self._temporary_folder()
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._socket = self._short_socket_path() if unix_socket else None
        self._password = secrets.token_hex(16)
        self._port = port
        self._may_change_port = port is None
        self._appendfsync = appendfsync
        self._extra = dict(config or {})
        self._start_seconds = start_seconds
        self._owner = os.getpid()
        self._process: ServerProcess | None = None
        self._closed = False
        atexit.register(self.close)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    @property
    def port(self) -> int:
        """The TCP port of 127.0.0.1; 0 with a unix socket.

        Raises:
            EmbeddedRedisError: the server was never started.
        """
        if self._socket is not None:
            return 0
        if self._port is None:
            raise EmbeddedRedisError("the embedded Redis has no port yet: call start() first")
        return self._port

    @property
    def url(self) -> str:
        """The address of database 0, password included."""
        if self._socket is not None:
            return f"unix://{quote(str(self._socket))}?db=0"
        return f"redis://:{self._password}@127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        """The process id of the running server.

        Raises:
            EmbeddedRedisError: it is not running.
        """
        if self._process is None or not self._process.running:
            raise EmbeddedRedisError("the embedded Redis is not running: call start() first")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the server's process is alive."""
        return self._process is not None and self._process.running

    @property
    def log(self) -> Path:
        """The server's log, over all its starts."""
        return self.folder / "redis.log"

    def client(self, **options: Any) -> redis.Redis:
        """A new client of this server that reports a failure at once instead of trying again."""
        return redis.Redis.from_url(self.url, **{"retry": Retry(NoBackoff(), 0), **options})

    def start(self) -> None:
        """Starts the server on its folder and its door, and returns when it answers.

        Raises:
            ServerDidNotStartError: it ended or did not answer in time.
            FolderInUseError: another server works in the folder.
            EmbeddedRedisError: it is running already, or was closed.
        """
        if self._closed:
            raise EmbeddedRedisError("the embedded Redis was closed: make a new one on the same folder")
        if self.running:
            raise EmbeddedRedisError("the embedded Redis is running already")
        deadline = time.monotonic() + self._start_seconds
        while True:
            if self._port is None and self._socket is None:
                self._port = _free_port()
            log_start = self.log.stat().st_size if self.log.exists() else 0
            self._write_config()
            self._process = ServerProcess([str(self.binary.path), "redis.conf"], self.folder, self.log, deadline)
            if self._answers(self._process, deadline):
                self._may_change_port = False
                return
            ended = not self.running
            self.kill()
            log = self.log.read_bytes()[log_start:].decode(errors="replace")
            if ended and self._may_change_port and "already in use" in log and time.monotonic() < deadline:
                self._port = None  # someone took it since we looked
                continue
            what = "ended at its start" if ended else f"did not answer within {self._start_seconds:g} s"
            tail = "\n".join(f"  {line}" for line in log.splitlines()[-15:])
            raise ServerDidNotStartError(f"{self.binary.path} {what}; the end of its log:\n{tail}")

    def stop(self) -> None:
        """Ends the server in an orderly way; data and door stay for the next ``start``. Nothing if it is down."""
        if self._process is not None:
            self._process.end(signal.SIGTERM)

    def kill(self) -> None:
        """Ends the server as ``kill -9`` does. Nothing if it is down."""
        if self._process is not None:
            self._process.end(signal.SIGKILL)

    def close(self) -> None:
        """Ends the server for good and removes what was temporary. Nothing in a process forked from the owner."""
        if os.getpid() != self._owner:
            return
        atexit.unregister(self.close)
        self._closed = True
        self.stop()
        while self._temporary:
            shutil.rmtree(self._temporary.pop(), ignore_errors=True)

    def _answers(self, process: ServerProcess, deadline: float) -> bool:
        """Waits until our own server answers: a stranger on the same port has another process id."""
        with self.client(socket_timeout=0.5, socket_connect_timeout=0.5) as client:
            while process.running and time.monotonic() < deadline:
                with contextlib.suppress(redis.RedisError):
                    client.ping()
                    if client.info("server")["process_id"] == process.pid:
                        return True
                time.sleep(0.01)
        return False

    def _write_config(self) -> None:
        lines: dict[str, str | int] = {
            "bind": "127.0.0.1",
            "port": self.port,
            "dir": ".",
            "appendonly": "yes",
            "appendfsync": self._appendfsync,
            "save": '""',
            "maxmemory-policy": "noeviction",
        }
        if self._socket is None:
            lines |= {"requirepass": self._password}
        else:
            lines |= {"unixsocket": f'"{self._socket}"', "unixsocketperm": 700}
        text = "".join(f"{name} {value}\n" for name, value in (lines | self._extra).items())
        path = self.folder / "redis.conf"
        path.unlink(missing_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(text)

    def _temporary_folder(self, parent: str | None = None) -> Path:
        folder = Path(tempfile.mkdtemp(prefix="bunce-redis-", dir=parent))
        self._temporary.append(folder)
        return folder

    def _short_socket_path(self) -> Path:
        path = self.folder / "redis.sock"
        if len(os.fsencode(path)) > LONGEST_SOCKET_PATH:
            path = self._temporary_folder("/tmp") / "redis.sock"  # noqa: S108 -- mkdtemp makes a folder of our own in it
        return path


def _free_port() -> int:
    while True:
        port = random.choice(_PORTS)  # noqa: S311 -- no secret
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
