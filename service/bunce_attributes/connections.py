"""Connections to Redis, as this project wants them, and what Celery needs for the same place.

Every client is made here, so that none repeats a command by itself: redis-py's ten default retries would run a
script twice and hold a thread for a minute.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry
from redis.sentinel import MasterNotFoundError, Sentinel

from bunce_attributes.redis_url import Address, RedisPlace, Scheme, UnusableRedisUrl, parse_redis_url, safe_url

__all__ = ["UnusableRedisUrl", "broker_transport_options", "broker_url", "connect", "explain", "safe_url"]

TIMEOUT_SECONDS = 5.0
HEALTH_CHECK_SECONDS = 30
"""A connection idle for longer is asked for a PONG before it is used, so that a link cut by a firewall is noticed."""


def connect(url: str, *, timeout_seconds: float = TIMEOUT_SECONDS, client_name: str = "bunce-attributes") -> Redis:
    """A client for a URL, safe in threads and after a fork. Nothing is sent before its first command.

    Answers are bytes. No command is ever repeated; a command that takes longer than `timeout_seconds` raises
    :class:`redis.exceptions.TimeoutError`. `client_name` is what ``CLIENT LIST`` shows.

    Raises:
        UnusableRedisUrl: the URL is none, or leaves TLS unverified.
    """
    place = parse_redis_url(url)
    options: dict[str, Any] = {
        "db": place.database,
        "username": place.username,
        "password": place.password,
        "socket_timeout": timeout_seconds,
        "socket_connect_timeout": timeout_seconds,
        "health_check_interval": HEALTH_CHECK_SECONDS,
        "retry": Retry(NoBackoff(), 0),
        # One protocol with every release of redis-py: the default changed, and answers with it.
        "protocol": 2,
        "client_name": client_name,
    }
    match place.scheme:
        case Scheme.UNIX:
            return Redis(unix_socket_path=place.socket_path, **options)
        case Scheme.SENTINEL:
            return _through_sentinel(place, options)
        case Scheme.TCP | Scheme.TLS:
            options["socket_keepalive"] = True
            address = place.addresses[0]
            return Redis(host=address.host, port=address.port, **options, **_tls(place, safe_url(url)))


def _tls(place: RedisPlace, shown: str) -> dict[str, Any]:
    if place.scheme is not Scheme.TLS:
        return {}
    for name, path in place.tls_files:
        if not Path(path).is_file():
            raise UnusableRedisUrl(f"{shown}: {name} names a file that is not there: {path}")
    return {"ssl": True, "ssl_cert_reqs": "required", "ssl_check_hostname": True, **dict(place.tls_files)}


def _through_sentinel(place: RedisPlace, options: dict[str, Any]) -> Redis:
    shared = ("socket_timeout", "socket_connect_timeout", "retry", "protocol", "client_name")
    sentinels = Sentinel(  # type: ignore[no-untyped-call]  # redis-py does not annotate its Sentinel
        [(address.host, address.port) for address in place.addresses],
        sentinel_kwargs={
            **{name: options[name] for name in shared},
            "socket_keepalive": True,
            "username": place.sentinel_username,
            "password": place.sentinel_password,
        },
    )
    client: Redis = sentinels.master_for(  # type: ignore[no-untyped-call]  # as above
        place.master_name, Redis, socket_keepalive=True, **options
    )
    return client


def broker_url(url: str) -> str:
    """The same place as kombu 5.7 wants it: its own names, and its own traps avoided.

    ``rediss://`` without ``ssl_cert_reqs`` would not be verified there; a socket has another scheme; Sentinel's
    database is read from the first URL alone.

    Raises:
        UnusableRedisUrl: as for :func:`connect`.
    """
    place = parse_redis_url(url)
    user = f"{quote(place.username or '', safe='')}:{quote(place.password, safe='')}@" if place.password else ""
    match place.scheme:
        case Scheme.UNIX:
            query = urlencode({"virtual_host": place.database})
            return f"redis+socket://{user}{quote(place.socket_path)}?{query}"
        case Scheme.TLS:
            query = urlencode({"ssl_cert_reqs": "required", **dict(place.tls_files)})
            return f"rediss://{user}{_host(place.addresses[0])}/{place.database}?{query}"
        case Scheme.TCP:
            return f"redis://{user}{_host(place.addresses[0])}/{place.database}"
        case Scheme.SENTINEL:
            first, *others = place.addresses
            urls = [f"sentinel://{user}{_host(first)}/{place.database}"]
            return ";".join(urls + [f"sentinel://{_host(address)}" for address in others])


def broker_transport_options(url: str) -> dict[str, Any]:
    """What belongs into Celery's ``broker_transport_options`` beside :func:`broker_url`.

    With time-outs, so that a half-open connection never holds a worker. No ``retry_on_timeout``: it would publish
    twice.

    Raises:
        UnusableRedisUrl: as for :func:`connect`.
    """
    place = parse_redis_url(url)
    options: dict[str, Any] = {
        "socket_timeout": 10,
        "socket_connect_timeout": 5,
        "health_check_interval": 10,
    }
    if place.scheme is not Scheme.UNIX:
        options["socket_keepalive"] = True
    if place.scheme is Scheme.SENTINEL:
        options["master_name"] = place.master_name
        login = {"username": place.sentinel_username, "password": place.sentinel_password}
        options["sentinel_kwargs"] = {
            "socket_timeout": 5,
            **{name: value for name, value in login.items() if value is not None},
        }
    return options


def _host(address: Address) -> str:
    host = f"[{address.host}]" if ":" in address.host else address.host
    return f"{host}:{address.port}"


def explain(error: BaseException, url: str) -> str:
    """One sentence about an error of redis-py (or one that wraps it): what is wrong at `url` and the mend.

    Neither the password nor anything of a command's arguments is in it.
    """
    cause: BaseException = error
    while not isinstance(cause, RedisError) and (inner := cause.__cause__ or cause.__context__) is not None:
        cause = inner
    # A server without TLS often just keeps silent when it is spoken to with TLS.
    hint = _OR_NO_TLS if isinstance(cause, RedisTimeoutError) and url.strip().startswith("rediss://") else ""
    return f"Redis at {safe_url(url)} {_verdict(cause)}{hint}"


_OR_NO_TLS = "; or it does not speak TLS: then write redis:// rather than rediss://"
_UNKNOWN_HOST = "is not to be found: the host's name is unknown"
_SERVER_SAYS = {
    "OOM": "is full (its maxmemory is reached) and takes nothing more: raise maxmemory, or wait until workers drain it",
    "NOAUTH": "wants a password: put it into the URL, as in redis://:password@host:6379/0",
    "WRONGPASS": "refuses the user or the password of the URL",
    "NOPERM": "does not allow this user what is needed: extend its ACL",
    "READONLY": "is a replica that takes no writes: name the primary, or use sentinel://",
    "MISCONF": "takes no writes because it cannot save its data to disk: look at its log and its disk",
    "LOADING": "is still loading its data: try again in a few seconds",
    "WRONGTYPE": "holds something else under a name of ours: another application shares this database, "
    "so use another BUNCE_NAMESPACE or database",
    "CLUSTERDOWN": "is a Redis Cluster, which is not supported: use a single Redis or Sentinel",
    "MOVED": "is a Redis Cluster, which is not supported: use a single Redis or Sentinel",
    "CROSSSLOT": "is a Redis Cluster, which is not supported: use a single Redis or Sentinel",
    "NOREPLICAS": "takes no writes because too few replicas follow it: look at min-replicas-to-write",
    "NOSCRIPT": "forgot a script between two commands: try again",
}


_CLASSES: tuple[tuple[type[RedisError], str], ...] = (
    (OutOfMemoryError, _SERVER_SAYS["OOM"]),
    (ReadOnlyError, _SERVER_SAYS["READONLY"]),
    (NoPermissionError, _SERVER_SAYS["NOPERM"]),
    (BusyLoadingError, _SERVER_SAYS["LOADING"]),
    (MasterNotFoundError, "is not to be found: no Sentinel that answers knows a living primary of that master_name"),
    (RedisTimeoutError, "does not answer in time: look at its load and at the network between"),
)
_TEXTS = (
    ("DB index is out of range", "has no database of the number at the end of the URL: choose another, such as /0"),
    ("LAYOUT", "holds rows that a later release of bunce-attributes wrote: upgrade this one"),
    (
        "CERTIFICATE_VERIFY_FAILED",
        "shows a certificate that cannot be verified: name its authority with ?ssl_ca_certs=/path/ca.pem",
    ),
    ("SSL", "does not speak TLS as expected: is it redis:// rather than rediss://, or the port another one?"),
    ("Connection refused", "is not there (connection refused): is it running, and are host and port right?"),
    ("No such file", "is not there (no such socket): is it running, and is the path right?"),
    ("Permission denied", "cannot be opened (permission denied): may this user read and write the socket?"),
    ("not known", _UNKNOWN_HOST),
    ("resolution", _UNKNOWN_HOST),
    ("No address", _UNKNOWN_HOST),
)


def _verdict(error: BaseException) -> str:
    text = str(error)
    if isinstance(error, AuthenticationError):
        return _SERVER_SAYS["NOAUTH" if "required" in text.lower() else "WRONGPASS"]
    by_code = _SERVER_SAYS.get(text.partition(" ")[0].lstrip("-"))
    by_class = next((sentence for kind, sentence in _CLASSES if isinstance(error, kind)), None)
    by_text = next((sentence for fragment, sentence in _TEXTS if fragment in text), None)
    if (known := by_code or by_class or by_text) is not None:
        return known
    if isinstance(error, RedisConnectionError):
        return "closed the connection or cannot be reached: is it running, and does it expect TLS (rediss://)?"
    return f"fails with {type(error).__name__}: look at its log"
