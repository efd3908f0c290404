"""The limit: prebuilt bodies of 100 rows, posted one after the other. Prints the seconds and the processor's."""

from __future__ import annotations

import json
import os
import sys
import time

import httpx

from benchmarks.rows import ROWS_A_CALL, row


def main(count: int) -> None:
    """Post so many rows."""
    bodies = [
        json.dumps({"attributes": [row(number) for number in range(first, min(first + ROWS_A_CALL, count))]}).encode()
        for first in range(0, count, ROWS_A_CALL)
    ]
    url = f"{os.environ['BUNCE_API_URL']}/attributes/customers"
    headers = {"X-Authorization": os.environ["BUNCE_API_KEY"], "Content-Type": "application/json"}
    with httpx.Client(headers=headers, timeout=10) as client:
        client.get(url)
        began, cpu = time.perf_counter(), time.process_time()
        for body in bodies:
            client.post(url, content=body).raise_for_status()
        print(json.dumps({"seconds": time.perf_counter() - began, "cpu_seconds": time.process_time() - cpu}))


if __name__ == "__main__":
    main(int(sys.argv[1]))
