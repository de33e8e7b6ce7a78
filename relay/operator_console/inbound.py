"""How the relay understands a mail that came back: `bounce paste`, as a page. Nothing is changed."""

from __future__ import annotations

from typing import Final

from relay.console.pages import Context, Page, page
from relay.console.visit import Visit
from relay.operator_console.command_line import CommandLine
from relay.refusals import invalid

#: As large as a form; what matters of a bounce stands in its first kilobytes.
_SECONDS: Final = 20.0


def pages(command_line: CommandLine) -> tuple[Page, ...]:
    @page("GET", "/inbound", "operator_inbound.html", "Paste a bounce", nav="Inbound")
    async def inbound(visit: Visit) -> Context:
        return {"mail": visit.typed("mail"), "printed": None}

    @page("POST", "/inbound", "operator_inbound.html", "Paste a bounce", again=inbound)
    async def understand(visit: Visit) -> Context:
        form = await visit.form()
        mail = form.one("mail")
        if not mail:
            raise invalid("mail", "paste the whole mail, with its header")
        printed = await command_line.run(
            "bounce", "paste", stdin=mail.encode("utf-8", "replace"), seconds=_SECONDS
        )
        return {"mail": mail, "printed": printed}

    return inbound, understand
