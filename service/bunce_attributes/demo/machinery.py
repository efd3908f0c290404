"""What the demo starts on this machine, and how it ends: nothing outlives the demo, not even a killed one."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from bunce_attributes import embedded_redis
from bunce_attributes.settings import Settings

_LAUNCHER = Path(embedded_redis.__file__).with_name("launcher.py")
_STOP_SECONDS = 15.0
_FOREIGN = ("BUNCE_", "REDIS_", "CELERY_")
_PROXIES = {"http_proxy", "https_proxy", "all_proxy", "no_proxy"}


class DemoSettings(Settings):
    """Settings that come from nowhere but the demo itself: no environment, no ``.env``."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - pydantic's signature, as the three below
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the environment of whoever runs the demo
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the file .env where the demo is run
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - there is none
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only the arguments count."""
        return (init_settings,)


def worker_environment(settings: Settings, environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of a worker: the given one without anybody's settings, and with ours.

    Args:
        settings: what the worker must have; those at their default are left out.
        environment: the demo's own.
    """
    kept = {
        name: value
        for name, value in environment.items()
        if not name.startswith(_FOREIGN) and name.lower() not in _PROXIES
    }
    for name in settings.model_fields_set:
        field = Settings.model_fields[name]
        value = settings.key if name == "api_key" else getattr(settings, name)
        kept[str(field.alias)] = str(value)
    return kept


class WorkerProcess:
    """`bunce-attributes worker` in a process of its own, from construction to :meth:`wait`.

    Args:
        name: of the worker, for Flower.
        log: where its output goes.
        environment: see :func:`worker_environment`.
        folder: its working directory, so that no ``.env`` is found.
    """

    def __init__(self, name: str, *, log: Path, environment: Mapping[str, str], folder: Path) -> None:
        self.name = name
        self.log = log
        command = [sys.executable, "-P", "-c", "from bunce_attributes.cli import main; main()"]
        command += ["worker", "--name", f"{name}@%h"]
        with contextlib.ExitStack() as once_started:
            how, lifeline, self._ours = "signal", -1, -1
            inherited: list[int] = []
            if sys.platform != "linux":
                how = "lifeline"
                lifeline, self._ours = os.pipe()
                once_started.callback(os.close, lifeline)
                inherited.append(lifeline)
            self._process = subprocess.Popen(  # noqa: S603 - our own modules
                [sys.executable, "-I", "-S", str(_LAUNCHER), how, str(os.getpid()), str(lifeline), *command],
                cwd=folder,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=once_started.enter_context(log.open("ab")),
                stderr=subprocess.STDOUT,
                pass_fds=inherited,
                # Ctrl-C in the terminal is for the demo, which then stops its workers.
                start_new_session=True,
            )

    @property
    def exit_code(self) -> int | None:
        """How it ended; None while it runs."""
        return self._process.poll()

    def stop(self) -> None:
        """Ask it to finish its calls and end."""
        if self.exit_code is None:
            self._process.terminate()

    def wait(self) -> None:
        """Until it has ended; after 15 s the end is made."""
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._ours >= 0:
            os.close(self._ours)
            self._ours = -1


class Workers:
    """Several workers for as long as a ``with`` block; they are stopped together."""

    def __init__(self, settings: Settings, *, count: int, logs: Path, folder: Path) -> None:
        environment = worker_environment(settings, os.environ)
        self.processes: list[WorkerProcess] = []
        try:
            for number in range(1, count + 1):
                name = f"worker-{number}"
                log = logs / f"{name}.log"
                self.processes.append(WorkerProcess(name, log=log, environment=environment, folder=folder))
        except BaseException:
            self.close()
            raise

    def dead(self) -> WorkerProcess | None:
        """A worker that has ended by itself."""
        return next((worker for worker in self.processes if worker.exit_code is not None), None)

    def close(self) -> None:
        """Stop all, and wait."""
        for worker in self.processes:
            worker.stop()
        for worker in self.processes:
            worker.wait()

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()
