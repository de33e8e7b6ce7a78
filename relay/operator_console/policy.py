"""What another relay.toml would have done with the mail of this log: `policy simulate`, as a page."""

from __future__ import annotations

import os
import tempfile

from relay.config import CONFIG_FILE
from relay.console.pages import Context, Page, page
from relay.console.visit import Visit
from relay.core import Core
from relay.operator_console.command_line import CommandLine


def pages(core: Core, command_line: CommandLine) -> tuple[Page, ...]:
    @page("GET", "/policy", "operator_policy.html", "What if", nav="What if")
    async def policy(visit: Visit) -> Context:
        text = visit.typed("config")
        if not text:
            text = await core.surroundings.offload((core.directory / CONFIG_FILE).read_text)
        return {"config": text, "printed": None}

    @page("POST", "/policy", "operator_policy.html", "What if", again=policy)
    async def simulate(visit: Visit) -> Context:
        form = await visit.form()
        text = form.one("config").replace("\r\n", "\n")
        path = await core.surroundings.offload(_written, text)
        try:
            printed = await command_line.run("policy", "simulate", after=("--config", path))
        finally:
            os.unlink(path)
        return {"config": text, "printed": printed}

    return policy, simulate


def _written(text: str) -> str:
    """A file that nobody else can read."""
    descriptor, path = tempfile.mkstemp(prefix="atmos-relay-policy-", suffix=".toml")
    with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogatepass") as file:
        file.write(text)
    return path
