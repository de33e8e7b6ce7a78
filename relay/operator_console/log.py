"""The log: its segments, and whether all of it is whole.

`log verify` reads everything and takes as long as that takes, so it is begun here and goes on by itself; the page says
how it stands, and keeps what the last one said until the relay ends.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import trio

from relay.console.pages import Context, Page, See, page
from relay.console.visit import Visit
from relay.operator_console.command_line import CommandLine, Printed
from relay.refusals import Refusal

VERIFY_SECONDS_MAX = 4 * 3600.0


class Verified(NamedTuple):
    began_us: int
    by: str
    #: None: it goes on.
    printed: Printed | None
    ended_us: int | None
    said: str


def pages(command_line: CommandLine, nursery: trio.Nursery) -> tuple[Page, ...]:
    last: list[Verified] = []

    @page(
        "GET",
        "/log",
        "operator_log.html",
        "Log",
        nav="Log",
        says={"begun": "The log is being verified. This page says how it stands when it is loaded again."},
    )
    async def log(visit: Visit) -> Context:
        printed = await command_line.run("log", "inspect", after=("--json",))
        if printed.status or printed.is_cut:
            raise Refusal("TEMPORARILY_UNAVAILABLE", printed.text[:300])
        inspected: dict[str, Any] = json.loads(printed.text)
        # The newest ones are asked for, and there can be thousands.
        return {
            "segments": inspected["segments"][-100:][::-1],
            "count": len(inspected["segments"]),
            "records": inspected["records"],
            "bytes": inspected["bytes"],
            "last_seq": visit.store.last_seq,
            "verified": last[0] if last else None,
        }

    @page("POST", "/log/verify", "operator_log.html", "Log", again=log)
    async def verify(visit: Visit) -> Context | See:
        if last and last[0].ended_us is None:
            raise Refusal("CONFLICT", "the log is being verified already")
        by = visit.session.session_id[:8] if visit.session else ""
        begun = Verified(visit.now_us, by, None, None, "")
        last[:] = [begun]

        async def go_on() -> None:
            printed: Printed | None = None
            said = ""
            try:
                printed = await command_line.run("log", "verify", seconds=VERIFY_SECONDS_MAX)
            except Refusal as refusal:
                said = refusal.message
            last[:] = [begun._replace(printed=printed, ended_us=visit.store.now_us(), said=said)]

        nursery.start_soon(go_on)
        return See("/log", "begun")

    return log, verify
