"""The dispatcher: a thread in every worker that sends wake-ups when there is work.

It is a thread of its own because Celery's timers die with the broker's connection; it ticks while Redis is away.
"""

from __future__ import annotations

import threading
from typing import Any

import redis
from celery import bootsteps

from bunce_attributes.connections import explain
from bunce_attributes.delivery import NoCall
from bunce_attributes.outbox.outbox import Work
from bunce_attributes.settings import Settings
from bunce_attributes.worker.health import BEAT_SECONDS, Beats
from bunce_attributes.worker.heartbeat import Heartbeat
from bunce_attributes.worker.housekeeping import Housekeeping
from bunce_attributes.worker.logs import call_line, calls_lost, intake_waits, logger
from bunce_attributes.worker.runtime import Runtime, runtime
from bunce_attributes.worker.wakeups import new_tokens

LONGEST_SLEEP_SECONDS = 0.025
"""Messages make no noise when they arrive: this is the longest that one lies unseen. A look costs 0.1 ms."""
SHORTEST_SLEEP_SECONDS = 0.002
PAUSE_WITHOUT_REDIS_SECONDS = 1.0
SHORT_INTAKE_SECONDS = 0.5
"""How long the dispatcher takes in by itself before it looks at the calls again."""


class Dispatcher:
    """Looks, reserves, sends; delivers itself what it cannot send."""

    def __init__(self, here: Runtime, heartbeat: Heartbeat, beats: Beats) -> None:
        self._here = here
        self._heartbeat = heartbeat
        self._beats = beats
        self._housekeeping = Housekeeping(here.outbox, here.settings)
        self._stop = threading.Event()
        self._redis_away = False

    def run(self) -> None:
        """Tick until :meth:`stop`; no error ends it."""
        pause = 0.0
        while not self._stop.wait(pause):
            self._beats.dispatcher(redis_away=self._redis_away)
            try:
                pause = self.tick()
                if self._redis_away:
                    self._redis_away = False
                    logger.info("Redis is back")
            except redis.RedisError as error:
                if not self._redis_away:
                    self._redis_away = True
                    away = isinstance(error, (redis.ConnectionError, redis.TimeoutError))
                    what = "Redis is out of reach" if away else "Redis refuses what this worker asks"
                    logger.warning(what, reason=explain(error, self._here.settings.redis_url))
                pause = PAUSE_WITHOUT_REDIS_SECONDS
            except Exception:
                logger.exception("dispatcher")
                pause = PAUSE_WITHOUT_REDIS_SECONDS

    def tick(self) -> float:
        """One look; returns the seconds until the next one."""
        self._heartbeat.beat()
        self._housekeeping.tidy()
        work = self._here.outbox.poll(new_tokens(self._here.settings.max_concurrent_calls))
        calls_lost(work.calls_lost)
        self._send(work)
        return min(max(work.next_seconds, SHORTEST_SLEEP_SECONDS), LONGEST_SLEEP_SECONDS)

    def stop(self) -> None:
        """No wake-up is sent after this."""
        self._stop.set()

    def leave(self) -> None:
        """Tell the others that this worker has stopped; a Redis that is away must not hold up its end."""
        if not self._redis_away:
            self._heartbeat.leave()

    def _send(self, work: Work) -> None:
        if self._here.wakeups.send(work):
            return
        if work.intake:
            self._take_in()
        if work.call_tokens:
            # One of them: a turn must not become long, and each ends by looking again.
            self._deliver(work.call_tokens[0])

    # A full Redis refuses wake-ups, and Celery's consumer cannot even connect to it; only work makes room in it.

    def _deliver(self, token: str) -> None:
        if self._stop.is_set():
            return
        report = self._here.delivery.deliver(token)
        if not isinstance(report, NoCall):
            call_line(report)

    def _take_in(self) -> None:
        if self._stop.is_set():
            return
        result = self._here.intake.run(SHORT_INTAKE_SECONDS)
        intake_waits(result.refused)


class DispatcherStep(bootsteps.StartStopStep):
    """Starts the dispatcher with the worker process, once, and stops it before the pool."""

    # After the first fork, so that no child inherits the thread's locks.
    requires = ("celery.worker.components:Pool",)

    def __init__(self, worker: Any, **kwargs: Any) -> None:
        super().__init__(worker, **kwargs)
        self._dispatcher: Dispatcher | None = None
        self._thread: threading.Thread | None = None
        self._beats = Beats.from_environment(worker.app.conf["bunce_settings"].lease_seconds)

    def start(self, worker: Any) -> None:
        """Called once a process, never on a reconnect."""
        settings: Settings = worker.app.conf["bunce_settings"]
        here = runtime(settings)
        self._dispatcher = Dispatcher(here, Heartbeat(here.client, settings, worker.hostname), self._beats)
        self._thread = threading.Thread(target=self._dispatcher.run, name="dispatcher", daemon=True)
        self._thread.start()

    def register_with_event_loop(self, worker: Any, hub: Any) -> None:  # noqa: ARG002 - Celery's signature
        """Called on every connection, because a lost one takes the loop's timers with it."""
        self._beats.loop()
        hub.call_repeatedly(BEAT_SECONDS, self._beats.loop)

    def stop(self, worker: Any) -> None:  # noqa: ARG002 - Celery's signature
        """Stop within the seconds that one command may take."""
        if self._dispatcher is not None:
            self._dispatcher.stop()
        if self._thread is not None:
            self._thread.join(5)
        if self._dispatcher is not None:
            self._dispatcher.leave()

    terminate = stop
