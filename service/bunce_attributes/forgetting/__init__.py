"""Erasure: everything kept about one customer leaves Redis; docs/operating.md says what cannot be found."""

from bunce_attributes.forgetting.forget import Forgotten, forget
from bunce_attributes.forgetting.queue import QueueBusy

__all__ = ["Forgotten", "QueueBusy", "forget"]
