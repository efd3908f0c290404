"""The whole service on one machine: a private Redis, a sandbox of the API, two workers, a file of updates.

At its end the state of the sandbox is compared with what the file says, by rules written down a second time
(``expectation.py``, ``comparison.py``), so that the demo cannot agree with the service by sharing its mistakes.
"""
