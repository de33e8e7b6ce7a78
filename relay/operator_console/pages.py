"""All pages of the operator's own, in the order in which each page lists them."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import trio

from relay.console.pages import Page
from relay.core import Core
from relay.operator_console import (
    domains,
    finding,
    inbound,
    log,
    members,
    message,
    overview,
    policy,
    providers,
    queue,
    reputation,
)
from relay.operator_console.command_line import CommandLine

#: Of one member, beside those that the member sees itself.
PAGES_OF_A_MEMBER: Final = (*members.PAGES_OF_ONE, *domains.PAGES_OF_ONE)

TEMPLATES: Final = Path(__file__).parent / "templates"


def operator_pages(core: Core, command_line: CommandLine, nursery: trio.Nursery) -> tuple[Page, ...]:
    return (
        *overview.PAGES,
        *queue.PAGES,
        *members.PAGES,
        *domains.PAGES,
        *finding.PAGES,
        *reputation.PAGES,
        *providers.PAGES,
        *message.pages(command_line),
        *policy.pages(core, command_line),
        *inbound.pages(command_line),
        *log.pages(command_line, nursery),
    )
