"""What can go wrong with the embedded Redis.

EmbeddedRedisError
├── NoServerFoundError       this machine has no server of the needed version
├── ServerDidNotStartError   it ended or did not answer in time; the text holds the end of its log
└── FolderInUseError         another server works in the folder
"""


class EmbeddedRedisError(Exception):
    """The embedded Redis cannot do what was asked; ``str()`` says why and what mends it."""


class NoServerFoundError(EmbeddedRedisError):
    """There is no Redis server of the needed version on this machine."""


class ServerDidNotStartError(EmbeddedRedisError):
    """The server ended or did not answer in time; the text holds the end of its log."""


class FolderInUseError(EmbeddedRedisError):
    """Another server works in the folder, and two would ruin one append-only file."""
