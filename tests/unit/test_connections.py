"""Connections: what Celery gets for the same place, and one readable sentence for every way in which Redis fails."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis
from kombu import Connection
from redis.sentinel import MasterNotFoundError

from bunce_attributes.connections import (
    UnusableRedisUrl,
    broker_transport_options,
    broker_url,
    connect,
    explain,
)

SECRET = "s3cr3t"


@pytest.mark.parametrize(
    ("url", "for_kombu"),
    [
        ("redis://h", "redis://h:6379/0"),
        ("redis://u:p%2F@h:1/2", "redis://u:p%2F@h:1/2"),
        ("redis://:p@[::1]:1/2", "redis://:p@[::1]:1/2"),
        # kombu verifies nothing unless it is told to.
        ("rediss://h", "rediss://h:6379/0?ssl_cert_reqs=required"),
        (
            "rediss://h?ssl_ca_certs=/a%20b/ca.pem",
            "rediss://h:6379/0?ssl_cert_reqs=required&ssl_ca_certs=%2Fa+b%2Fca.pem",
        ),
        ("unix:///run/r.sock?db=3", "redis+socket:///run/r.sock?virtual_host=3"),
        # kombu reads the database from the first URL alone.
        ("sentinel://:p@a,b:1/5?master_name=m", "sentinel://:p@a:26379/5;sentinel://b:1"),
    ],
)
def test_kombu_gets_the_same_place(url: str, for_kombu: str) -> None:
    assert broker_url(url) == for_kombu


def test_kombu_verifies_tls() -> None:
    with Connection(broker_url("rediss://h")) as connection:
        assert connection.ssl == {"ssl_cert_reqs": ssl.CERT_REQUIRED}


def test_kombu_learns_of_the_primary_and_the_sentinels_password() -> None:
    options = broker_transport_options(f"sentinel://a?master_name=m&sentinel_password={SECRET}")
    assert options["master_name"] == "m"
    assert options["sentinel_kwargs"]["password"] == SECRET


def test_kombu_never_publishes_twice_and_never_waits_for_ever() -> None:
    options = broker_transport_options("redis://h")
    # Without time-outs a half-open link holds a worker for good.
    assert options["socket_timeout"] > 0
    assert options["socket_connect_timeout"] > 0
    assert "retry_on_timeout" not in options


def test_no_command_is_repeated_and_none_waits_for_ever() -> None:
    client = connect("redis://h:1/2", timeout_seconds=1.5, client_name="me")
    options = client.connection_pool.connection_kwargs
    assert options["retry"]._retries == 0
    assert (options["socket_timeout"], options["socket_connect_timeout"]) == (1.5, 1.5)
    assert (options["db"], options["client_name"]) == (2, "me")


def test_a_missing_certificate_is_named_before_anything_is_sent() -> None:
    with pytest.raises(UnusableRedisUrl, match=r"ssl_ca_certs names a file that is not there: /nowhere/ca\.pem"):
        connect("rediss://h?ssl_ca_certs=/nowhere/ca.pem")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (redis.OutOfMemoryError("command not allowed when used memory > 'maxmemory'."), "is full"),
        (redis.AuthenticationError("Authentication required."), "wants a password"),
        (redis.AuthenticationError("invalid username-password pair or user is disabled."), "refuses the user"),
        (redis.exceptions.NoPermissionError("this user has no permissions"), "extend its ACL"),
        (redis.ReadOnlyError("You can't write against a read only replica."), "is a replica"),
        (redis.BusyLoadingError("Redis is loading the dataset in memory"), "is still loading"),
        (redis.ResponseError("MISCONF Redis is configured to save RDB snapshots"), "its disk"),
        (redis.ResponseError("WRONGTYPE Operation against a key"), "another application shares this database"),
        (redis.ResponseError("MOVED 3999 127.0.0.1:6381"), "is a Redis Cluster"),
        (redis.ResponseError("something new"), "fails with ResponseError"),
        (redis.ResponseError("DB index is out of range"), "has no database of the number"),
        (redis.TimeoutError("Timeout reading from socket"), "does not answer in time"),
        (MasterNotFoundError("No master found for 'm'"), "no Sentinel that answers"),
        (redis.ConnectionError("Error 111 connecting to h:1. Connection refused."), "connection refused"),
        (redis.ConnectionError("Error -2 connecting to h:1. Name or service not known."), "host's name is unknown"),
        (redis.ConnectionError("Error 2 connecting to /r.sock. No such file or directory."), "no such socket"),
        (redis.ConnectionError("Error 13 connecting to /r.sock. Permission denied."), "permission denied"),
        (redis.ConnectionError("Connection closed by server."), "closed the connection"),
        (redis.ConnectionError("Error 1: [SSL: WRONG_VERSION_NUMBER] wrong version number"), "does not speak TLS"),
    ],
)
def test_every_failure_is_one_sentence_with_its_mend_and_without_the_password(
    error: redis.RedisError, said: str
) -> None:
    sentence = explain(error, f"redis://:{SECRET}@h:1")
    assert said in sentence
    assert sentence.startswith("Redis at redis://:***@h:1 ")
    assert "\n" not in sentence


def test_a_server_that_is_silent_to_tls_may_speak_none() -> None:
    silence = redis.TimeoutError("Timeout connecting to server")
    assert "write redis:// rather than rediss://" in explain(silence, "rediss://h")
    assert "rediss://" not in explain(silence, "redis://h")


def test_the_cause_within_another_error_is_explained() -> None:
    wrapper = RuntimeError("publishing failed")
    wrapper.__cause__ = redis.OutOfMemoryError("full")
    assert "is full" in explain(wrapper, "redis://h")


def test_a_redis_that_is_not_there_is_reported_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    client = connect(f"redis://127.0.0.1:{port}/0")
    with pytest.raises(redis.ConnectionError) as raised:
        client.ping()
    assert "connection refused" in explain(raised.value, f"redis://127.0.0.1:{port}/0")


@dataclass(frozen=True, slots=True)
class TlsRedis:
    """A server that speaks TLS with a certificate of its own and answers +PONG to PING, +OK to everything else."""

    port: int
    certificate: Path


@pytest.fixture
def tls_redis(tmp_path: Path) -> Iterator[TlsRedis]:
    if shutil.which("openssl") is None:
        pytest.skip("making a certificate needs openssl")
    certificate, key = tmp_path / "ca.pem", tmp_path / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                plain, _ = listener.accept()
            except OSError:
                return
            try:
                with context.wrap_socket(plain, server_side=True) as stream:
                    while data := stream.recv(65536):
                        for command in data.split(b"*")[1:]:
                            stream.sendall(b"+PONG\r\n" if b"PING" in command else b"+OK\r\n")
            except OSError:
                plain.close()

    thread = threading.Thread(target=serve)
    thread.start()
    yield TlsRedis(listener.getsockname()[1], certificate)
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(5)


def test_a_certificate_of_an_unknown_authority_is_refused(tls_redis: TlsRedis) -> None:
    url = f"rediss://localhost:{tls_redis.port}/0"
    with pytest.raises(redis.ConnectionError) as raised:
        connect(url).set("a", "b")
    assert "?ssl_ca_certs=/path/ca.pem" in explain(raised.value, url)


def test_a_certificate_of_the_named_authority_is_accepted(tls_redis: TlsRedis) -> None:
    client = connect(f"rediss://localhost:{tls_redis.port}/0?ssl_ca_certs={tls_redis.certificate}")
    assert client.set("a", "b")
    client.close()


def test_a_certificate_for_another_name_is_refused(tls_redis: TlsRedis) -> None:
    client = connect(f"rediss://127.0.0.1:{tls_redis.port}/0?ssl_ca_certs={tls_redis.certificate}")
    with pytest.raises(redis.ConnectionError, match="CERTIFICATE_VERIFY_FAILED"):
        client.set("a", "b")
