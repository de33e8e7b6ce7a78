"""`/healthz`: the process answers. `/readyz`: it also takes mail. `/metrics`: how it fares, for Prometheus."""

from __future__ import annotations

from quart import Blueprint, Response

from relay.api.answers import json_answer
from relay.core import Core
from relay.presentation import ErrorAnswer
from relay.refusals import Refusal


def routes(core: Core) -> Blueprint:
    blueprint = Blueprint("health", __name__)

    @blueprint.get("/healthz")
    async def healthz() -> Response:
        return json_answer({"status": "live"})

    @blueprint.get("/readyz")
    async def readyz() -> Response:
        try:
            core.check_accepting()
        except Refusal as refusal:
            return json_answer(ErrorAnswer(refusal.message, refusal.code), 503)
        return json_answer({"status": "ready", "seq": core.store.last_seq})

    @blueprint.get("/metrics")
    async def metrics() -> Response:
        return Response(core.metrics.text(), content_type="text/plain; version=0.0.4; charset=utf-8")

    return blueprint
