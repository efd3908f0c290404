"""A local stand-in for the API, written from its documentation alone.

It imports nothing from the rest of the package, so that the two cannot share a mistake.
"""

from typing import TYPE_CHECKING, Any

from bunce_attributes.sandbox.config import SandboxConfig, SandboxError

if TYPE_CHECKING:
    from bunce_attributes.sandbox.app import SandboxApp
    from bunce_attributes.sandbox.client import SandboxClient
    from bunce_attributes.sandbox.running import Sandbox, SandboxProcess

__all__ = ["Sandbox", "SandboxApp", "SandboxClient", "SandboxConfig", "SandboxError", "SandboxProcess"]

_MODULES = {"Sandbox": "running", "SandboxProcess": "running", "SandboxApp": "app", "SandboxClient": "client"}


def __getattr__(name: str) -> Any:
    # The commands import this package to show --help; a web server and a client are loaded when one is used.
    from importlib import import_module  # noqa: PLC0415

    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
