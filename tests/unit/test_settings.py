"""Settings: one readable list of all faults, no secret in any of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from bunce_attributes.settings import Settings, SettingsError, load_settings, unknown_names

KEY = "sk_live_0123456789abcdef"


def faults(*, need_api_key: bool = True) -> str:
    with pytest.raises(SettingsError) as caught:
        load_settings(need_api_key=need_api_key)
    return str(caught.value)


def test_without_anything_set_the_defaults_are_those_of_the_contract() -> None:
    settings = load_settings()
    assert settings.base_url == "https://api.bunce.so/v1"
    assert settings.limit_group == "api.bunce.so"
    assert (settings.batch_max_rows, settings.batch_max_bytes, settings.batch_max_wait_seconds) == (100, 1_000_000, 1.0)
    assert (settings.max_attempts, settings.retry_base_seconds, settings.retry_max_seconds) == (5, 60, 3600)
    assert (settings.requests_per_minute, settings.max_concurrent_calls) == (475, 10)
    assert (settings.request_timeout_seconds, settings.lease_seconds) == (10, 25)
    assert (settings.unknown_hold_seconds, settings.version_memory_seconds) == (10, 3600)
    assert (settings.namespace, settings.redis_url) == ("bunce-attributes", "redis://localhost:6379/0")
    assert settings.dead_retention_days == 0


def test_a_missing_key_is_a_fault_only_where_the_api_is_called() -> None:
    assert load_settings().api_key is None
    assert "BUNCE_API_KEY is missing" in faults()


def test_a_key_of_white_space_is_a_missing_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty key would pass for a secret to be cut out of answers, at every one of their characters."""
    monkeypatch.setenv("BUNCE_API_KEY", " \t ")
    assert "BUNCE_API_KEY is missing" in faults()
    assert load_settings().api_key is None


def test_all_faults_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUNCE_BATCH_MAX_ROWS", "0")
    monkeypatch.setenv("BUNCE_MAX_ATTEMPTS", "many")
    monkeypatch.setenv("BUNCE_API_URL", "ftp://api.test")
    text = faults()
    for name in ("BUNCE_BATCH_MAX_ROWS", "BUNCE_MAX_ATTEMPTS", "BUNCE_API_URL", "BUNCE_API_KEY"):
        assert text.count(f"  - {name}") == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BUNCE_MAX_ATTEMPTS", "0"),
        ("BUNCE_BATCH_MAX_WAIT_SECONDS", "-1"),
        ("BUNCE_REQUEST_TIMEOUT_SECONDS", "0"),
        ("BUNCE_REQUEST_TIMEOUT_SECONDS", "nan"),
        ("BUNCE_RETRY_MAX_SECONDS", "inf"),
        ("BUNCE_RETRY_MAX_SECONDS", "1"),
        ("BUNCE_REQUESTS_PER_MINUTE", "0"),
        ("BUNCE_MAX_CONCURRENT_CALLS", "0"),
        ("BUNCE_ENV", "test"),
        ("BUNCE_NAMESPACE", "with space"),
        ("BUNCE_BRAKE_SHARE", "1.5"),
        ("BUNCE_LOG_LEVEL", "loud"),
        ("BUNCE_API_URL", "api.test"),
        ("BUNCE_API_URL", "http://"),
        ("BUNCE_API_URL", "http://[::1"),
        ("BUNCE_API_URL", "http://api.test:99999"),
        ("BUNCE_API_URL", "http://user:secret@api.test"),
        ("BUNCE_API_URL", "http://api.test/v1?x=1"),
        ("REDIS_URL", "http://localhost"),
        ("REDIS_URL", "nonsense"),
    ],
)
def test_an_impossible_setting_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    text = faults(need_api_key=False)
    assert name in text
    assert "secret" not in text


@pytest.mark.parametrize(("env", "key"), [("live", "sk_test_abc"), ("sandbox", "sk_live_abc")])
def test_a_key_of_the_other_environment_is_refused(monkeypatch: pytest.MonkeyPatch, env: str, key: str) -> None:
    monkeypatch.setenv("BUNCE_ENV", env)
    monkeypatch.setenv("BUNCE_API_KEY", key)
    text = faults()
    assert "environment" in text
    assert key not in text


def test_an_address_of_ones_own_takes_any_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUNCE_API_KEY", "sk_test_abc")
    monkeypatch.setenv("BUNCE_API_URL", "http://127.0.0.1:8080/v1/")
    settings = load_settings(need_api_key=True)
    assert settings.base_url == "http://127.0.0.1:8080/v1"
    assert settings.limit_group == "127.0.0.1"


@pytest.mark.parametrize("key", ["sk_live_ä", "sk_live_a b", "sk_live_a\nb", "sk_live_a\x00b"])
def test_a_key_that_no_header_can_carry_is_refused_without_being_shown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, key: str
) -> None:
    file = tmp_path / "key"
    file.write_text(key, encoding="utf-8")
    monkeypatch.setenv("BUNCE_API_KEY_FILE", str(file))
    text = faults()
    assert "BUNCE_API_KEY" in text
    assert key not in text


def test_the_key_may_be_a_file_with_a_line_end(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(f"{KEY}\n")
    monkeypatch.setenv("BUNCE_API_KEY_FILE", str(file))
    assert load_settings(need_api_key=True).key == KEY


def test_a_key_file_that_cannot_be_read_is_one_clear_fault(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BUNCE_API_KEY_FILE", str(tmp_path / "none"))
    assert "BUNCE_API_KEY_FILE: cannot read" in faults()


def test_an_env_file_is_read_and_the_environment_wins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(f"BUNCE_API_KEY={KEY}\nBUNCE_MAX_ATTEMPTS=7\nBUNCE_BATCH_MAX_ROWS=9\nOTHER=x\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BUNCE_MAX_ATTEMPTS", "3")
    settings = load_settings(need_api_key=True)
    assert (settings.max_attempts, settings.batch_max_rows, settings.key) == (3, 9, KEY)


def test_no_form_of_the_settings_shows_the_key() -> None:
    settings = load_settings(api_key=KEY)
    assert isinstance(settings, Settings)
    for text in (repr(settings), str(settings), settings.model_dump_json(), repr(settings.model_dump())):
        assert KEY not in text


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_settings().max_attempts = 3  # type: ignore[misc]  # the point of the test


def test_a_number_that_is_none_is_refused_in_plain_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUNCE_BATCH_MAX_ROWS", "many")
    monkeypatch.setenv("BUNCE_MAX_ATTEMPTS", "0")
    monkeypatch.setenv("BUNCE_BRAKE_SHARE", "7")
    monkeypatch.setenv("BUNCE_NAMESPACE", "a b")
    lines = faults(need_api_key=False).splitlines()
    assert "  - BUNCE_BATCH_MAX_ROWS: must be a whole number" in lines
    assert "  - BUNCE_MAX_ATTEMPTS: must be at least 1" in lines
    assert "  - BUNCE_BRAKE_SHARE: must be at most 1" in lines
    assert "  - BUNCE_NAMESPACE: must be up to 100 letters, digits and . : _ -, the first a letter or a digit" in lines


def test_a_misspelt_setting_is_found_with_what_is_meant(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    Path(".env").write_text("BUNCE_API_ULR=http://127.0.0.1:8400/v1\nREDIS_MAXMEMORY=1gb\n")
    monkeypatch.setenv("BUNCE_MAX_ATEMPTS", "7")
    monkeypatch.setenv("BUNCE_COLOUR", "blue")
    monkeypatch.setenv("BUNCE_HEALTH_FILE", "/tmp/alive")
    monkeypatch.setenv("BUNCE_ATTRIBUTES_METRICS_SERVICE_HOST", "10.0.0.1")
    assert list(unknown_names()) == [
        "BUNCE_API_ULR is no setting; BUNCE_API_URL is",
        "BUNCE_COLOUR is no setting",
        "BUNCE_MAX_ATEMPTS is no setting; BUNCE_MAX_ATTEMPTS is",
    ]
