"""Every key in Redis: its name, type and meaning. The scripts derive the same names (``lua/_common.lua``).

==========================================  ======  =====================================================
key (``NS`` = BUNCE_NAMESPACE)              type    meaning
==========================================  ======  =====================================================
``NS`` and ``NS\\x06\\x163``, ``…6``, ``…9``    list    the producers' queue and Celery's priority lists
``NS:work``                                 list    Celery's queue of wake-ups (kombu), no data in them
``NS:pidbox…``, ``NS:events…``              –       kombu's own bookkeeping for the wake-ups
``NS:intake``                               hash    lease, cursor and lost leases of the one reader of the queue
``NS:scheduled``                            zset    messages with a future eta: id → due ms
``NS:scheduled:messages``                   hash    id → message, verbatim
``NS:scheduled:due``                        list    scheduled messages whose time has come; read first
``NS:rows``                                 hash    digest of the key → the waiting update (record)
``NS:ready:live``, ``NS:ready:bulk``        list    digest + due ms of what may be sent now, oldest first
``NS:later``                                zset    digest → due ms of what waits for a retry or a hold
``NS:groups``                               zset    group → due ms: rows that travel together and alone
``NS:group:ID``                             list    digests of a group
``NS:groups:meta``                          hash    group → how often it failed (JSON)
``NS:braked:ATTRIBUTE``                     list    digests that wait for `resume --attribute`
``NS:brakes``                               hash    attribute → why it is paused (JSON)
``NS:brakes:leaving``                       set     resumed attributes whose rows are still being moved
``NS:tallies``                              hash    attribute → rows lately refused and saved
``NS:calls``                                zset    call → end of its lease, ms
``NS:call:ID``                              hash    digest → record of a row in the call
``NS:calls:meta``                           hash    call → gate epoch and failures so far (JSON)
``NS:inflight``                             hash    digest → call
``NS:wakeups``                              zset    token → end of a slot's reservation, ms
``NS:gate``                                 hash    pause, epoch, probe, streaks, learned sizes
``NS:counts``                               hash    counters
``NS:versions``                             hash    last version given (us), last id, layout of what is stored,
                                                   lengths of the version memory (ms)
``NS:seen:N``                               hash    digest → delivered version; expires (a quarter of the memory)
``NS:dead``, ``NS:dead:raw``                hash    id → dead letter (JSON); unreadable message, verbatim
``NS:dead:index``                           zset    id → died at, ms
``NS:dead:marks``                           hash    digest → versions that its dead letters keep
``NS:housekeeping``                         string  the worker that ends the retention of dead letters; expires
``NS:workers``                              hash    worker → heartbeat, release, settings (JSON)
``bunce-attributes-limit:GROUP``            hash    pause after a 429 and pacing of a rate-limit group
``bunce-attributes-limit:GROUP:permits``    zset    permits of the last 60 s, of all namespaces of the group
==========================================  ======  =====================================================

A record is a binary header (``lua/_common.lua``: layout version, flags, place, attempts, suspicion, lengths, version,
moments), the JSON of past attempts, and the row's JSON as it is sent.
"""

from __future__ import annotations

PRIORITY_STEPS = (0, 3, 6, 9)
"""Celery's default steps on Redis, the highest priority first (0 is the highest there)."""
_PRIORITY_SEPARATOR = "\x06\x16"


def producer_lists(namespace: str) -> tuple[str, ...]:
    """The producers' queue and the priority lists beside it, highest priority first."""
    return tuple(f"{namespace}{_PRIORITY_SEPARATOR}{step}" if step else namespace for step in PRIORITY_STEPS)


def work_queue(namespace: str) -> str:
    """Celery's queue of wake-ups."""
    return f"{namespace}:work"


def workers_key(namespace: str) -> str:
    """Heartbeats of the workers."""
    return f"{namespace}:workers"
