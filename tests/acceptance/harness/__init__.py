"""Real processes for the acceptance tests: Redis, the sandbox, workers; a workload, and a checker of what happened.

stage.py      a Redis, a sandbox and workers that belong to one test
workers.py    worker processes: start, stop, kill
workload.py   values of keys, each newer than the one before, and what is known of each: taken, refused, unknown
checker.py    pure: what the sandbox saw, against what was enqueued
proxy.py      a TCP proxy that falls silent
deadline.py   waiting for a fact
"""
