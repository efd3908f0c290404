"""Every form of REDIS_URL, and every way to write it wrongly."""

from __future__ import annotations

import pytest

from bunce_attributes.redis_url import Address, RedisPlace, Scheme, UnusableRedisUrl, parse_redis_url, safe_url

SECRET = "s3cr3t"


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("redis://localhost", RedisPlace(Scheme.TCP, (Address("localhost", 6379),))),
        (" redis://h:1/2 ", RedisPlace(Scheme.TCP, (Address("h", 1),), database=2)),
        ("redis://h?db=3", RedisPlace(Scheme.TCP, (Address("h", 6379),), database=3)),
        ("redis://[::1]:7/0", RedisPlace(Scheme.TCP, (Address("::1", 7),))),
        ("redis://:p%40%2F@h", RedisPlace(Scheme.TCP, (Address("h", 6379),), password="p@/")),
        (
            "rediss://u:p@h/1?ssl_ca_certs=/ca.pem",
            RedisPlace(
                Scheme.TLS,
                (Address("h", 6379),),
                database=1,
                username="u",
                password="p",
                tls_files=(("ssl_ca_certs", "/ca.pem"),),
            ),
        ),
        ("unix:///run/r.sock?db=4", RedisPlace(Scheme.UNIX, socket_path="/run/r.sock", database=4)),
        ("unix://:p@/run/r.sock", RedisPlace(Scheme.UNIX, socket_path="/run/r.sock", password="p")),
        (
            "sentinel://u:p@a,b:2/5?master_name=m&sentinel_password=q",
            RedisPlace(
                Scheme.SENTINEL,
                (Address("a", 26379), Address("b", 2)),
                database=5,
                username="u",
                password="p",
                master_name="m",
                sentinel_password="q",
            ),
        ),
    ],
)
def test_forms_that_are_understood(url: str, place: RedisPlace) -> None:
    assert parse_redis_url(url) == place


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "is no address of a Redis: write redis://host:6379/0"),
        (SECRET, "is no address of a Redis"),
        (f"http://:{SECRET}@h", "is no address of a Redis"),
        (f"redis://:{SECRET}@", "names no host"),
        (f"redis://:{SECRET}/x@h", "%2F"),
        (f"redis://:{SECRET}#x@h", "%23"),
        (f"redis://:{SECRET}?x@h", "%3F"),
        (f"redis://:{SECRET}@h:port", "the port must be a number"),
        (f"redis://:{SECRET}@h:99999", "the port must be a number"),
        (f"redis://:{SECRET}@h/main", "the database must be a number"),
        (f"redis://:{SECRET}@a,b", "for sentinel:// alone"),
        (f"redis://:{SECRET}@h?sockettimeout=1", "known are db"),
        (f"rediss://:{SECRET}@h?ssl_cert_reqs=none", "switches off the verification"),
        (f"rediss://:{SECRET}@h?ssl_cert_reqs=CERT_OPTIONAL", "?ssl_ca_certs=/path/ca.pem"),
        (f"rediss://:{SECRET}@h?ssl_check_hostname=False", "switches off the verification"),
        (f"redis://:{SECRET}@[::1", "is no address of a Redis"),
        (f"unix://:{SECRET}@run/r.sock", "three slashes"),
        ("unix://", "three slashes"),
        (f"sentinel://:{SECRET}@a", "add ?master_name=NAME"),
        (f"sentinel://a?master_name=m&sentinel_password={SECRET}&x=1", "known are db, master_name"),
    ],
)
def test_what_is_wrong_is_said_with_the_mend_and_without_the_password(url: str, said: str) -> None:
    with pytest.raises(UnusableRedisUrl) as raised:
        parse_redis_url(url)
    assert said in str(raised.value)
    assert SECRET not in str(raised.value)


def test_a_place_does_not_show_its_passwords() -> None:
    place = parse_redis_url(f"sentinel://:{SECRET}@a?master_name=m&sentinel_password={SECRET}")
    assert SECRET not in repr(place)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://h:1/0", "redis://h:1/0"),
        ("redis://:pw@h:1/0", "redis://:***@h:1/0"),
        ("redis://user:p@w@h", "redis://user:***@h"),
        ("redis://pw@h", "redis://:***@h"),
        ("sentinel://a?master_name=m&sentinel_password=pw", "sentinel://a?master_name=m&sentinel_password=***"),
        ("pw", "***"),
    ],
)
def test_a_url_is_shown_without_its_password(url: str, shown: str) -> None:
    assert safe_url(url) == shown
