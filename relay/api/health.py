"""`/healthz`: the process answers. `/readyz`: it also takes mail. `/metrics`: how it fares, for Prometheus."""

from __future__ import annotations

from relay.api.answers import Answer
from relay.api.operations import Described, operation
from relay.api.request import Request
from relay.edge import Edge
from relay.presentation import ErrorAnswer


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
    "The relay accepts mail",
    answers={200: Described("Ready", dict)},
    errors=(503,),
    for_members=False,
)
async def readyz(edge: Edge, request: Request) -> Answer:
    refusal = edge.why_not_accepting()
    if refusal is not None:
        return Answer.of(ErrorAnswer(refusal.message, refusal.code), 503)
    return Answer.of({"status": "ready", "seq": edge.store.last_seq})


@operation(
    "GET",
    "/metrics",
    "metrics",
    "Prometheus text",
    answers={200: Described("Metrics", media_type="text/plain")},
    for_members=False,
)
async def metrics(edge: Edge, request: Request) -> Answer:
    return Answer(200, edge.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")
