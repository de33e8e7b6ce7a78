"""All pages of a member, in the order in which each page lists them; the operator's door shows the same of each."""

from __future__ import annotations

from typing import Final

from relay.console import (
    domains,
    forwarding,
    keys,
    live,
    message,
    message_contents,
    messages,
    overview,
    suppressions,
    webhooks,
)
from relay.console.pages import Page

PAGES: Final[tuple[Page, ...]] = (
    *overview.PAGES,
    *messages.PAGES,
    *message.PAGES,
    *message_contents.PAGES,
    *suppressions.PAGES,
    *domains.PAGES,
    *keys.PAGES,
    *webhooks.PAGES,
    *forwarding.PAGES,
    *live.PAGES,
)
