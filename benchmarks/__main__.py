"""`make bench`: every question, one table, JSON."""

from benchmarks import (
    accept,
    append,
    attack,
    command_start,
    compose_sign,
    deliver,
    finding,
    hostile,
    nodes,
    open_loop,
    policy,
    postfix,
    processes,
    queue_length,
    replay,
    stream,
    submission,
    webhooks,
    worst_inputs,
)
from benchmarks.command import run

MODULES = (
    append,
    compose_sign,
    accept,
    deliver,
    finding,
    postfix,
    submission,
    policy,
    queue_length,
    replay,
    stream,
    webhooks,
    hostile,
    command_start,
    worst_inputs,
    attack,
    processes,
    open_loop,
    nodes,
)

run({module.QUESTION: module.measure for module in MODULES})
