"""`bunce-attributes check`."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

import click

from bunce_attributes.checks import Finding, Level, run_checks
from bunce_attributes.cli.common import EXIT_FAILED, settings_or_exit
from bunce_attributes.connections import connect

_SIGNS = {Level.OK: ("ok", "green"), Level.WARNING: ("look", "yellow"), Level.FAULT: ("FAULT", "red")}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="For programs: all findings as one JSON list.")
@click.option("--strict", is_flag=True, help="Fail for what wants a look too.")
def check(as_json: bool, strict: bool) -> None:
    """Check Redis, the API key, the settings, the workers; one line each, with the mend.

    Asks the API once, harmlessly and under the rate limit. Exit codes: 0 no fault, 1 a fault, 2 wrong settings.
    """
    settings = settings_or_exit()
    findings: list[Finding] = []
    with connect(settings.redis_url, client_name=f"{settings.namespace}-check") as client:
        for finding in run_checks(client, settings):
            findings.append(finding)
            if not as_json:
                sign, colour = _SIGNS[finding.level]
                click.echo(f"{click.style(f'{sign:<5}', fg=colour)} {finding}")
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
    bad = {Level.FAULT, Level.WARNING} if strict else {Level.FAULT}
    if any(finding.level in bad for finding in findings):
        sys.exit(EXIT_FAILED)
