"""Dead letters: found, shown, replayed, exported, purged, and their retention.

They are read in pages and changed a few hundred at a time, so that no number of them holds up Redis.
"""

from bunce_attributes.dead_letters.filters import Filter, UnusableMoment, moment_ms
from bunce_attributes.dead_letters.letters import Attempt, DeadLetter, Kind
from bunce_attributes.dead_letters.store import DeadLetters, Replayed, Skipped

__all__ = [
    "Attempt",
    "DeadLetter",
    "DeadLetters",
    "Filter",
    "Kind",
    "Replayed",
    "Skipped",
    "UnusableMoment",
    "moment_ms",
]
