"""How many messages a second go through the whole relay, from the first POST to the last one at a receiver?

    python -m benchmarks.deliver [--messages 2000] [--rounds 5] [--connections 32] [--recipients 1]

One relay process, one member, 1.5 KB bodies, signed with RSA-2048 and Ed25519 for member and operator, a real disk,
SMTP to a local receiver that keeps up (`benchmarks.receiver`). The clock runs from the first POST until the receiver
has counted the last message, so the accept path is in it. In turn with it, in the same run, the two ceilings: what the
receiver takes from a bare client, and what the accept path does while delivery rests.

CPU time of the relay process is what a shared machine disturbs least; it is the figure to compare between commits.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from typing import NamedTuple

from benchmarks.accept import send_request
from benchmarks.load import run_load
from benchmarks.receiver import Receiver, bare_client_rate, receiver
from benchmarks.world import RelayProcess, relay_process, silent_receiver

BODY_BYTES = 1500
SECONDS_MAX = 120.0
#: As many as the relay opens to one site by default.
SMTP_CONNECTIONS = 20


class Round(NamedTuple):
    per_second: float
    #: Milliseconds of the relay's CPU for each message.
    cpu_ms: float


def end_to_end(relay: RelayProcess, to: Receiver, options: argparse.Namespace) -> Round:
    request = send_request(relay.credentials, body_bytes=BODY_BYTES, recipients=options.recipients)
    posts = options.messages // options.recipients
    target = to.count + posts * options.recipients
    cpu, start = relay.cpu_seconds(), time.perf_counter()
    _post(relay, request, posts, options.connections)
    seconds = to.wait_for(target, seconds=SECONDS_MAX) - start
    messages = posts * options.recipients
    return Round(messages / seconds, (relay.cpu_seconds() - cpu) / messages * 1000)


def accept_only(relay: RelayProcess, options: argparse.Namespace) -> Round:
    request = send_request(relay.credentials, body_bytes=BODY_BYTES, recipients=options.recipients)
    posts = options.messages // options.recipients
    cpu, start = relay.cpu_seconds(), time.perf_counter()
    _post(relay, request, posts, options.connections)
    seconds = time.perf_counter() - start
    messages = posts * options.recipients
    return Round(messages / seconds, (relay.cpu_seconds() - cpu) / messages * 1000)


def _post(relay: RelayProcess, request: bytes, posts: int, connections: int) -> None:
    load = run_load(relay.address, request, connections=connections, seconds=SECONDS_MAX, requests=posts)
    if load.failed or load.requests < posts:
        sys.exit(f"{load.requests} of {posts} requests were answered, {load.failed} not with 200")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--messages", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--recipients", type=int, default=1, help="of each POST")
    options = parser.parse_args()

    ours: list[Round] = []
    accepting: list[Round] = []
    bare: list[float] = []
    with (
        receiver() as to,
        silent_receiver() as nobody,
        relay_process(route=to.address) as relay,
        relay_process(route=nobody) as resting,
    ):
        end_to_end(relay, to, options)  # warm
        for _ in range(options.rounds):
            bare.append(
                bare_client_rate(to, messages=options.messages, connections=SMTP_CONNECTIONS, size=BODY_BYTES)
            )
            accepting.append(accept_only(resting, options))
            ours.append(end_to_end(relay, to, options))
    rate, accepted, most = (
        statistics.median(values)
        for values in ((r.per_second for r in ours), (r.per_second for r in accepting), bare)
    )
    cpu, cpu_accept = (statistics.median(r.cpu_ms for r in rounds) for rounds in (ours, accepting))
    sink = "smtp-sink and smtp-source" if to.is_postfix else "benchmarks.receiver"
    print(
        f"rounds                 {options.rounds} of {options.messages} messages, medians; receiver: {sink}"
    )
    print(f"messages/s end to end  {rate:8.0f}")
    print(f"CPU ms/message         {cpu:8.2f}   of which accepting {cpu_accept:.2f}")
    print(f"accept path alone/s    {accepted:8.0f}   ceiling, same run; ratio {rate / accepted:.2f}")
    print(f"bare SMTP client/s     {most:8.0f}   ceiling, same run; ratio {rate / most:.3f}")


if __name__ == "__main__":
    main()
