"""How many durable sends a second does the accept path take?

    python -m benchmarks.accept [--seconds 5] [--rounds 3] [--connections 32] [--recipients 1]

One relay process, one member, 1.5 KB bodies, a real disk; each 200 means written, fdatasynced and in the
views. Delivery is held by a receiver that never greets. The ceiling, measured alternately in the same run, is bare
hypercorn on trio answering the same request from memory.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.load import Load, post, run_load
from benchmarks.world import DOMAIN, relay_process, silent_receiver


@contextmanager
def bare_hypercorn() -> Iterator[str]:
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.bare"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()


def send_request(credentials: dict[str, str], *, body_bytes: int = 1500, recipients: int = 1) -> bytes:
    to = [f"friend{number}@example.com" for number in range(recipients)]
    mail = {
        "from": f"you@{DOMAIN}",
        "to": to if recipients > 1 else to[0],
        "subject": "Hello",
        "text": "Sent via Atmosphere Mail\n" * (body_bytes // 25),
    }
    return post("/v1/send", json.dumps(mail).encode(), credentials)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--recipients", type=int, default=1, help="of each send")
    options = parser.parse_args()

    with silent_receiver() as receiver, relay_process(route=receiver) as relay, bare_hypercorn() as bare:
        request = send_request(relay.credentials, recipients=options.recipients)
        ours: list[Load] = []
        ceiling: list[Load] = []
        for _ in range(options.rounds):
            ceiling.append(run_load(bare, request, connections=options.connections, seconds=options.seconds))
            ours.append(
                run_load(relay.address, request, connections=options.connections, seconds=options.seconds)
            )
    failed = sum(load.failed for load in ours)
    rate, most = (statistics.median(load.per_second for load in loads) for loads in (ours, ceiling))
    print(f"connections         {options.connections}")
    print(f"durable sends/s     {rate:8.0f}   median of {options.rounds} rounds of {options.seconds:g} s")
    print(f"recipients/s        {rate * options.recipients:8.0f}")
    print(f"bare hypercorn/s    {most:8.0f}   the ceiling, same run")
    print(f"ratio               {rate / most:8.2f}")
    print(f"p50, p99            {_ms(ours, 'p50'):8.1f} {_ms(ours, 'p99'):.1f} ms")
    if failed:
        sys.exit(f"{failed} requests were not answered 200")


def _ms(loads: list[Load], which: str) -> float:
    return statistics.median(getattr(load, which) for load in loads) * 1000


if __name__ == "__main__":
    main()
