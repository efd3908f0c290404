"""What `check` finds: each finding one line, with its mend."""

from bunce_attributes.checks.all_checks import run_checks
from bunce_attributes.checks.findings import Finding, Level

__all__ = ["Finding", "Level", "run_checks"]
