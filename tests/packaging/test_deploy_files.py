"""The files of a deployment agree with the code: names of settings and of metrics, the release, what is published."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from bunce_attributes.metrics import METRICS, Kind
from bunce_attributes.settings import Settings
from bunce_attributes.version import __version__
from bunce_attributes.worker.health import VARIABLE

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
COMPOSE = ROOT / "docker-compose.yml"
OUR_SERVICES = ("worker", "flower", "metrics", "sandbox")
_KINDS = {".yml", ".yaml", ".json", ""}
FILES = [COMPOSE, ROOT / ".env.example", *sorted(path for path in DEPLOY.rglob("*") if path.suffix in _KINDS)]
FILES = [path for path in FILES if path.is_file()]

# Of the compose file and the image, not of the service.
OF_COMPOSE = {"BUNCE_IMAGE_TAG", VARIABLE}


def text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def service(name: str) -> str:
    """One service of the compose file, as its lines."""
    found = re.search(rf"^  {name}:\n((?:    .*\n|\n)+)", text(COMPOSE), re.MULTILINE)
    assert found, name
    return found[1]


def exposed() -> set[str]:
    """All names under which Prometheus stores our metrics."""
    names = set()
    for metric in METRICS:
        endings = ("_bucket", "_sum", "_count") if metric.kind is Kind.HISTOGRAM else ("",)
        names |= {metric.exposed_name + ending for ending in endings}
    return names


def names_of(pattern: str) -> Iterator[tuple[Path, str]]:
    for path in FILES:
        for name in re.findall(pattern, text(path)):
            yield path, name


def test_every_setting_named_in_a_deployment_exists() -> None:
    """A misspelt variable is silently ignored, and its default taken."""
    known = {field.alias for field in Settings.model_fields.values()} | OF_COMPOSE
    named = set(names_of(r"\bBUNCE_[A-Z_]*[A-Z]\b"))
    assert len(named) > 10
    assert {(path.name, name) for path, name in named if name not in known} == set()


def test_every_metric_named_in_a_deployment_exists() -> None:
    """An alert on a metric that nobody exports never fires."""
    named = {
        (path.name, name)
        for path, name in names_of(r"\bbunce_attributes_[a-z_]+\b")
        if name != "bunce_attributes_api_key"
    }
    assert len(named) > 20
    assert {(file, name) for file, name in named if name not in exposed()} == set()


def test_every_alert_is_tested_to_fire() -> None:
    rules, tests = text(DEPLOY / "prometheus/alerts.yml"), text(DEPLOY / "prometheus/alerts.test.yml")
    alerts = set(re.findall(r"- alert: (\w+)", rules))
    fired = set(re.findall(r"- alertname: (\w+)\n        eval_time: \w+\n        exp_alerts:\n", tests))
    silent = set(re.findall(r"- \{alertname: (\w+), eval_time: \w+, exp_alerts: \[\]\}", tests))
    assert len(alerts) > 10
    assert alerts == fired
    assert alerts <= silent, "an alert that always fires would pass the other test too"


def test_keda_asks_what_the_test_of_the_rules_tests() -> None:
    def query(path: Path, head: str) -> str:
        found = re.search(rf"{head} >-\n(.*?\n)\s+\)\n", text(path), re.DOTALL)
        assert found
        return " ".join(found[1].split())

    assert query(DEPLOY / "kubernetes/keda/scaled-object.yaml", "query:") == query(
        DEPLOY / "prometheus/alerts.test.yml", "&work_to_do"
    )


def test_the_release_is_the_same_everywhere() -> None:
    assert f"ARG VERSION={__version__}\n" in text(DEPLOY / "Dockerfile")
    assert f"newTag: {__version__}\n" in text(DEPLOY / "kubernetes/kustomization.yaml")


@pytest.mark.parametrize("name", OUR_SERVICES)
def test_our_services_have_no_more_rights_than_they_need(name: str) -> None:
    assert "<<: *service\n" in service(name)
    shared = text(COMPOSE).split("x-service:")[1].split("\nx-")[0]
    assert "read_only: true" in shared
    assert "cap_drop: [ALL]" in shared
    assert "no-new-privileges:true" in shared
    assert "healthcheck:" in service(name)
    assert "mem_limit:" in service(name)


def test_nothing_is_published_to_the_network() -> None:
    """What Docker publishes on all addresses is open to the network, past the host's firewall."""
    published = re.findall(r"ports: \[(.*)\]", text(COMPOSE))
    assert len(published) == 4
    assert [ports for ports in published if not ports.startswith('"127.0.0.1:')] == []
    assert "ports:" not in service("redis")
    assert "networks: [data]" in service("redis")


def test_redis_keeps_what_it_acknowledged() -> None:
    said = " ".join(service("redis").split())
    assert '--appendonly - "yes"' in said
    assert "--appendfsync - always" in said
    assert "--maxmemory-policy - noeviction" in said


def test_the_key_is_a_file_and_no_variable() -> None:
    """A variable shows in `docker inspect` and in every child's environment."""
    for path, name in names_of(r"BUNCE_API_KEY\b.?"):
        assert not re.match(r"BUNCE_API_KEY[=:]", name), path
    assert "BUNCE_API_KEY_FILE: /run/secrets/bunce_api_key" in service("worker")
    assert "BUNCE_API_KEY" not in service("flower") + service("metrics")


def test_the_key_of_the_trial_is_good_for_no_account() -> None:
    assert text(DEPLOY / "sandbox_api_key").startswith("sk_test_for_the_local_sandbox")


def test_the_image_is_made_of_the_lock_file_and_runs_as_nobody() -> None:
    said = text(DEPLOY / "Dockerfile")
    assert "--require-hashes" in said
    assert re.search(r"^USER 10001:10001$", said, re.MULTILINE)
    assert said.index("USER 10001") < said.index("ENTRYPOINT")
    assert "syntax=" not in said


def test_an_env_file_is_in_no_image() -> None:
    """Everything is left out but what is named, so that a new secret is too."""
    named = [line for line in text(ROOT / ".dockerignore").splitlines() if line and not line.startswith("#")]
    assert named[0] == "*"
    assert not [line for line in named if line.startswith("!") and ("env" in line or "secret" in line)]


def test_a_call_is_finished_before_a_worker_is_killed() -> None:
    """Longer than a lease of the default settings: 2 x 10 s + 5 s."""
    lease = Settings(_env_file=None).lease_seconds
    compose = re.search(r"stop_grace_period: (\d+)s", service("worker"))
    kubernetes = re.search(r"terminationGracePeriodSeconds: (\d+)", text(DEPLOY / "kubernetes/worker.yaml"))
    assert compose
    assert kubernetes
    assert int(compose[1]) > lease
    assert int(kubernetes[1]) > lease


def test_every_panel_of_the_dashboard_asks_something() -> None:
    panels = json.loads(text(DEPLOY / "grafana/dashboards/bunce-attributes.json"))["panels"]
    assert len(panels) > 10
    assert [panel["title"] for panel in panels if not all(target["expr"] for target in panel["targets"])] == []
    assert len({panel["id"] for panel in panels}) == len(panels)


def test_the_example_of_the_settings_is_complete_for_compose() -> None:
    """A variable of the compose file that a deployment must set is in the example."""
    example = text(ROOT / ".env.example")
    for name in ("BUNCE_API_URL", "BUNCE_API_KEY_FILE", "FLOWER_BASIC_AUTH", "REDIS_MAXMEMORY", "BUNCE_MESSAGE_EVENTS"):
        assert re.search(rf"^{name}=", example, re.MULTILINE), name
        assert f"${{{name}" in text(COMPOSE), name
