"""`bunce-attributes sandbox`."""

from bunce_attributes.sandbox.command import sandbox

__all__ = ["sandbox"]
