"""Postfix beside the relay, on the same disk: how many messages a second does each make durable, and how many deliver?

    python -m benchmarks.postfix

Postfix comes as Debian has it, with settings that leave out what is not asked (look-ups, TLS, rewriting); its
`smtp-source` sends it the same 1.5 KB on 32 connections. *Made durable*: Postfix puts everything into its hold queue
(each message a file, synced before the 250), the relay's delivery rests. *Delivered*: both on 20 connections to
`smtp-sink`, from the first submission to the last message at the receiver.

An instance of Postfix gets slower at delivering as it gets older, and faster, at first, at making durable. So each has
what suits it: for *delivered* a new instance in each round, for *made durable* one that has been warmed with the whole
load. Its hold queue is left to grow: to remove its files between rounds made the next round half as fast. Who goes
first alternates; the relay's processes stay.

What is the same: the disk, the message, the connections, durability before the answer. What is not: Postfix is written
in C, uses all cores, and signs nothing; the relay is one process, and signs each message four times. So the table also
has what each gets out of a second of processor time, all processes and threads counted.

Without Postfix, or not as root, there is nothing to measure, and a line says so. `BENCH_DIR` must be a directory that
the user `postfix` can reach.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import NamedTuple

from benchmarks.accept import BODY_BYTES, USUAL
from benchmarks.command import Effort, bench_directory, run
from benchmarks.deliver import SECONDS_MAX, SMTP_CONNECTIONS, post_messages
from benchmarks.receiver import PATH, Receiver, receiver
from benchmarks.report import Comparison, Row
from benchmarks.world import BenchedRelay, relay_process, silent_receiver, tree_cpu_seconds
from tests.world.daemon import free_port, open_daemon_directory
from tests.world.postfix import running_instance

QUESTION = "postfix"
MESSAGES = 2000
#: Of them, what an instance is warmed with before it is measured.
WARM_PART = 4

_MAIN = """\
mynetworks = 127.0.0.0/8
relayhost = [127.0.0.1]:{sink}
smtpd_tls_security_level = none
smtp_tls_security_level = none
local_recipient_maps =
smtpd_relay_restrictions = permit_mynetworks, reject
smtpd_client_connection_count_limit = 0
default_process_limit = 200
default_destination_concurrency_limit = {connections}
initial_destination_concurrency = {connections}
"""

_MASTER = """\
127.0.0.1:{passing} inet n - n - - smtpd
127.0.0.1:{holding} inet n - n - - smtpd -o smtpd_client_restrictions=static:HOLD
cleanup  unix       n - n - 0     cleanup
qmgr     unix       n - n 300 1   qmgr
rewrite  unix       - - n - -     trivial-rewrite
bounce   unix       - - n - 0     bounce
defer    unix       - - n - 0     bounce
trace    unix       - - n - 0     bounce
error    unix       - - n - -     error
retry    unix       - - n - -     error
proxymap unix       - - n - -     proxymap
scache   unix       - - n - 1     scache
smtp     unix       - - n - -     smtp
anvil    unix       - - n - 1     anvil
postlog  unix-dgram n - n - 1     postlogd
"""


class Postfix(NamedTuple):
    #: `host:port` that delivers to the sink, and one that holds everything.
    passing: str
    holding: str
    pid: int

    def cpu_seconds(self) -> float:
        """What its processes have used so far, those that have ended with them."""
        return tree_cpu_seconds(self.pid)


@contextmanager
def postfix(sink: str) -> Iterator[Postfix]:
    with open_daemon_directory("postfix", owner="root", below=bench_directory()) as directory:
        passing, holding = free_port(), free_port()
        main = _MAIN.format(sink=sink.rpartition(":")[2], connections=SMTP_CONNECTIONS)
        master = _MASTER.format(passing=passing, holding=holding)
        with running_instance(directory, main=main, master=master) as pid:
            yield Postfix(f"127.0.0.1:{passing}", f"127.0.0.1:{holding}", pid)


class Figure(NamedTuple):
    per_second: float
    #: Messages for each second of processor time.
    per_core: float


def _figure(messages: int, work: Callable[[], float], cpu: Callable[[], float]) -> Figure:
    """`work` returns when it was over (perf_counter)."""
    used, start = cpu(), time.perf_counter()
    seconds = work() - start
    return Figure(messages / seconds, messages / (cpu() - used))


def _submit(address: str, messages: int) -> float:
    source = shutil.which("smtp-source", path=PATH)
    options = ["-d", "-s", str(USUAL), "-m", str(messages), "-l", str(BODY_BYTES)]
    subprocess.run([str(source), *options, f"inet:{address}"], check=True, capture_output=True)
    return time.perf_counter()


def measure(effort: Effort) -> Iterator[Row]:
    if shutil.which("postfix", path=PATH) is None or os.geteuid():
        print("         Postfix is not installed, or this is not root: left out", file=sys.stderr)
        return
    messages = effort.scaled(MESSAGES)
    with (
        receiver() as sink,
        silent_receiver() as nobody,
        relay_process(route=sink.address) as relay,
        relay_process(route=nobody) as resting,
        postfix(sink.address) as holding,
    ):
        _submit(holding.holding, messages)  # warm
        yield from _compare(
            "made durable",
            effort,
            lambda: nullcontext(holding),  # to empty its hold queue in between halves its speed
            ours=lambda: _figure(messages, lambda: _post(resting, messages), resting.cpu_seconds),
            theirs=lambda other, count: _figure(
                count, lambda: _submit(other.holding, count), other.cpu_seconds
            ),
        )
        yield from _compare(
            "delivered",
            effort,
            lambda: postfix(sink.address),
            ours=lambda: _figure(
                messages, _until_received(sink, messages, lambda: _post(relay, messages)), relay.cpu_seconds
            ),
            theirs=lambda other, count: _figure(
                count,
                _until_received(sink, count, lambda: _submit(other.passing, count)),
                other.cpu_seconds,
            ),
        )


def _post(relay: BenchedRelay, messages: int) -> float:
    post_messages(relay, messages)
    return time.perf_counter()


def _until_received(sink: Receiver, messages: int, submit: Callable[[], float]) -> Callable[[], float]:
    def work() -> float:
        target = sink.count + messages
        submit()
        return sink.wait_for(target, seconds=SECONDS_MAX)

    return work


def _compare(
    what: str,
    effort: Effort,
    opened: Callable[[], AbstractContextManager[Postfix]],
    *,
    ours: Callable[[], Figure],
    theirs: Callable[[Postfix, int], Figure],
) -> Iterator[Row]:
    messages = effort.scaled(MESSAGES)
    ours()  # warm
    figures: list[tuple[Figure, Figure]] = []
    for number in range(effort.many_rounds):
        with opened() as other:
            theirs(other, max(USUAL, messages // WARM_PART))
            if number % 2:
                their = theirs(other, messages)
                figures.append((ours(), their))
            else:
                our = ours()
                figures.append((our, theirs(other, messages)))
    for name, of in (("messages/s", 0), ("messages for each second of a core", 1)):
        yield Row(
            question=QUESTION,
            case=f"{what}, 1.5 KB, {USUAL} connections",
            what=name,
            values=[our[of] for our, _ in figures],
            against=Comparison("Postfix", [their[of] for _, their in figures]),
            is_headline=True,
        )


if __name__ == "__main__":
    run({QUESTION: measure})
