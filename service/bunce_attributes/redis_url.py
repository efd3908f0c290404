"""Where Redis is: every form of ``REDIS_URL`` in one frozen value, and the URL without its password. Pure.

==================================================  =====================================================
``redis://[user:password@]host[:6379][/0]``         plain TCP
``rediss://…[?ssl_ca_certs=/path/ca.pem]``          TLS; the server's certificate and name are always verified
``unix://[user:password@]/path/redis.sock[?db=0]``  a socket on this machine
``sentinel://[user:password@]a:26379,b:26379/0?``   Sentinel; user and password are those of the primary
``master_name=NAME[&sentinel_password=…]``
==================================================  =====================================================
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit


class UnusableRedisUrl(ValueError):  # noqa: N818 - reads as what it is where it is caught
    """The text names no Redis that can be used; ``str()`` says why and how to mend it, without any password."""


class Scheme(StrEnum):
    """The ways to Redis."""

    TCP = "redis"
    TLS = "rediss"
    UNIX = "unix"
    SENTINEL = "sentinel"


@dataclass(frozen=True, slots=True)
class Address:
    """One host and port."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class RedisPlace:
    """A parsed URL. ``repr`` shows no password."""

    scheme: Scheme
    addresses: tuple[Address, ...] = ()
    socket_path: str = ""
    database: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls_files: tuple[tuple[str, str], ...] = ()
    """Options with the names of files, as redis-py calls them: ``ssl_ca_certs``, ``ssl_certfile``, ``ssl_keyfile``."""
    master_name: str = ""
    sentinel_username: str | None = None
    sentinel_password: str | None = field(default=None, repr=False)


_PORTS = {Scheme.TCP: 6379, Scheme.TLS: 6379, Scheme.SENTINEL: 26379}
_TLS_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_OPTIONS: dict[Scheme, tuple[str, ...]] = {
    Scheme.TCP: ("db",),
    Scheme.TLS: ("db", "ssl_cert_reqs", "ssl_check_hostname", *_TLS_FILES),
    Scheme.UNIX: ("db",),
    Scheme.SENTINEL: ("db", "master_name", "sentinel_username", "sentinel_password"),
}
_FORMS = (
    "redis://host:6379/0, rediss://host:6379/0, unix:///path/redis.sock or sentinel://a:26379,b:26379/0?master_name=…"
)
_ENCODE = "in a user name or password write / as %2F, # as %23, ? as %3F, @ as %40 and : as %3A"
_SECRET_OPTION = re.compile(r"([?&][^=&]*password=)[^&]*", re.IGNORECASE)


def safe_url(url: str) -> str:
    """The URL for people to read: ``***`` for whatever may be a password, also in a URL that cannot be used."""
    scheme, separator, rest = url.strip().partition("://")
    if not separator:
        # A text without a scheme may well be a password that was pasted into the wrong place.
        return "***"
    secret, at, place = rest.rpartition("@")
    user = secret.partition(":")[0] if ":" in secret else ""
    shown = _SECRET_OPTION.sub(r"\1***", place)
    return f"{scheme}://{user}:***@{shown}" if at else f"{scheme}://{shown}"


def parse_redis_url(url: str) -> RedisPlace:
    """What a ``REDIS_URL`` says.

    Raises:
        UnusableRedisUrl: with the fault and its mend.
    """
    shown = safe_url(url)
    try:
        parts = urlsplit(url.strip())
        scheme = Scheme(parts.scheme)
    except ValueError:
        what = "this (not shown, for it may hold a password)" if shown == "***" else shown
        raise UnusableRedisUrl(f"{what} is no address of a Redis: write {_FORMS}") from None
    if parts.fragment:
        raise UnusableRedisUrl(f"{shown} has a # in it: {_ENCODE}")
    options = _options(parts, scheme, shown)
    username, password = _credentials(parts)
    if scheme is Scheme.UNIX:
        addresses: tuple[Address, ...] = ()
        path, database = _socket_path(parts, shown), options.get("db", "0")
    else:
        addresses, path = _addresses(parts, scheme, shown), ""
        database = unquote(parts.path.strip("/")) or options.get("db", "0")
    if not database.isascii() or not database.isdigit():
        raise UnusableRedisUrl(f"{shown}: the database must be a number, for example …/0; {_ENCODE}")
    if scheme is Scheme.SENTINEL and not options.get("master_name"):
        raise UnusableRedisUrl(f"{shown} does not say which primary is meant: add ?master_name=NAME")
    return RedisPlace(
        scheme,
        addresses,
        path,
        int(database),
        username,
        password,
        tuple((name, options[name]) for name in _TLS_FILES if name in options),
        options.get("master_name", ""),
        options.get("sentinel_username"),
        options.get("sentinel_password"),
    )


def _credentials(parts: SplitResult) -> tuple[str | None, str | None]:
    userinfo = parts.netloc.rpartition("@")[0]
    user, _, password = userinfo.partition(":")
    return unquote(user) or None, unquote(password) or None


def _options(parts: SplitResult, scheme: Scheme, shown: str) -> dict[str, str]:
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    for name in options:
        if name not in _OPTIONS[scheme]:
            known = ", ".join(_OPTIONS[scheme])
            raise UnusableRedisUrl(
                f"{shown}: an option after the ? is not known for {scheme}://; known are {known}; {_ENCODE}"
            )
    verified = options.get("ssl_cert_reqs", "required").lower() in {"required", "cert_required"}
    named = options.get("ssl_check_hostname", "true").lower() in {"true", "1", "yes"}
    if not verified or not named:
        raise UnusableRedisUrl(
            f"{shown} switches off the verification of the server's certificate, so that anybody on the way could "
            "read and change the rows: remove ssl_cert_reqs and ssl_check_hostname, and name a private "
            "authority's certificate with ?ssl_ca_certs=/path/ca.pem"
        )
    return options


def _socket_path(parts: SplitResult, shown: str) -> str:
    if parts.netloc.rpartition("@")[2] or len(parts.path) < 2:
        raise UnusableRedisUrl(f"{shown}: write the whole path after three slashes, as in unix:///run/redis.sock")
    return unquote(parts.path)


def _addresses(parts: SplitResult, scheme: Scheme, shown: str) -> tuple[Address, ...]:
    names = parts.netloc.rpartition("@")[2].split(",")
    if len(names) > 1 and scheme is not Scheme.SENTINEL:
        raise UnusableRedisUrl(f"{shown} names several hosts: that is for sentinel:// alone")
    addresses = []
    for name in names:
        try:
            one = urlsplit(f"//{name.strip()}")
            host, port = one.hostname, one.port
        except ValueError:
            raise UnusableRedisUrl(f"{shown}: the port must be a number from 1 to 65535; {_ENCODE}") from None
        if not host:
            raise UnusableRedisUrl(f"{shown} names no host: write {_FORMS}")
        addresses.append(Address(unquote(host), _PORTS[scheme] if port is None else port))
    return tuple(addresses)
