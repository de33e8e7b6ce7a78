"""`/healthz`: the process answers. `/readyz`: it serves, and whether it takes mail. `/metrics`: how it fares, for
Prometheus.

The last two are for this machine and `[http] monitors`: how much there is to do, and how little room, is nobody else's
business.
"""

from __future__ import annotations

import math
from typing import Literal

import msgspec

from relay.api.answers import Answer
from relay.api.operations import Described, operation
from relay.api.request import Request
from relay.edge import Edge
from relay.elsewhere import Role
from relay.presentation import ErrorAnswer


class Readiness(msgspec.Struct):
    """The relay serves."""

    status: Literal["ready"]
    #: The last record of its log.
    seq: int
    #: A send would be taken now.
    accepting: bool
    #: Why not: what a send would be answered.
    code: str | None
    reason: str | None


class NodeReadiness(Readiness):
    """One of several nodes serves."""

    role: Role
    #: So old is what it answers, at most; None: nobody knows.
    lag_seconds: float | None = msgspec.field(name="lagSeconds")
    #: What is wrong with it, or with the database, in a sentence.
    trouble: str | None


@operation(
    "GET",
    "/healthz",
    "healthz",
    "The process is alive",
    answers={200: Described("Live", dict)},
    for_members=False,
)
async def healthz(edge: Edge, request: Request) -> Answer:
    return Answer.of({"status": "live"})


@operation(
    "GET",
    "/readyz",
    "readyz",
    "The relay serves; whether it accepts mail, too",
    answers={
        200: Described("Ready; `accepting` is false where there is no room, and `reason` says why", Readiness)
    },
    errors=(404, 503),
    for_members=False,
    for_monitors=True,
)
async def readyz(edge: Edge, request: Request) -> Answer:
    """A relay without room still delivers, and answers what became of a mail: whatever takes it out of service for
    that, a proxy say, would hide it from those who ask. So it is of a node that follows while nobody leads; but not of
    one whose log must not be answered from."""
    refusal, node = await edge.why_not_accepting(), edge.node
    if node is not None and node.is_unfit:
        return Answer.of(ErrorAnswer(node.trouble or "its log is unfit", "TEMPORARILY_UNAVAILABLE"), 503)
    follows = node is not None and node.role == "follower"
    if refusal is not None and refusal.code != "QUEUE_FULL" and not follows:
        return Answer.of(ErrorAnswer(refusal.message, refusal.code), 503)
    code, reason = (None, None) if refusal is None else (refusal.code, refusal.message)
    seq = edge.store.last_seq
    if node is None:
        return Answer.of(Readiness("ready", seq, refusal is None, code, reason))
    lag = None if math.isinf(node.lag_seconds) else round(node.lag_seconds, 1)
    return Answer.of(NodeReadiness("ready", seq, refusal is None, code, reason, node.role, lag, node.trouble))


@operation(
    "GET",
    "/metrics",
    "metrics",
    "Prometheus text",
    answers={200: Described("Metrics", media_type="text/plain")},
    errors=(404,),
    for_members=False,
    for_monitors=True,
)
async def metrics(edge: Edge, request: Request) -> Answer:
    return Answer(200, await edge.metrics_page(), media_type="text/plain; version=0.0.4; charset=utf-8")
