"""Which command does what a form of the console does: the consoles can do nothing that the command line cannot.

By the path of the form, below the base of its mount. `BY_HAND`: what is no act upon the relay but upon the visitor's
own session, or only looks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

#: Words of `atmos-relay`, of one command or of several that a form chooses from.
COMMANDS: Final[Mapping[str, tuple[str, ...]]] = {
    "/messages/{message_id}/cancel": ("queue cancel",),
    "/suppressions": ("suppression add",),
    "/suppressions/take-back": ("suppression remove",),
    "/domains": ("domain add",),
    "/domains/{domain}/look": ("domain verify",),
    "/domains/{domain}/pause": ("domain pause",),
    "/domains/{domain}/resume": ("domain resume",),
    "/domains/{domain}/remove": ("domain remove",),
    "/domains/{domain}/rotate": ("domain rotate-key",),
    "/domains/resume-all": ("domain resume",),
    "/keys": ("key issue",),
    "/keys/{key_id}/revoke": ("key revoke",),
    "/webhooks": ("webhook add",),
    "/webhooks/{webhook_id}/pause": ("webhook pause",),
    "/webhooks/{webhook_id}/resume": ("webhook resume",),
    "/webhooks/{webhook_id}/remove": ("webhook remove",),
    "/webhooks/{webhook_id}/rotate": ("webhook rotate",),
    "/webhooks/{webhook_id}/test": ("webhook test",),
    "/webhooks/{webhook_id}/replay": ("webhook replay",),
    "/forwarding": ("domain set-forward",),
    "/members": ("member add",),
    "/membership/suspend": ("member suspend",),
    "/membership/resume": ("member resume",),
    "/membership/limits": ("member limits",),
    "/membership/handle": ("member set-handle",),
    "/membership/remove": ("member remove",),
    "/reputation/{domain}/pause": ("domain pause",),
    "/reputation/{domain}/resume": ("domain resume",),
    "/queue/order": ("queue flush", "queue hold", "queue release", "queue cancel"),
    "/providers/{provider}": ("provider record",),
    "/policy": ("policy simulate",),
    "/inbound": ("bounce paste",),
    "/log/verify": ("log verify",),
}
BY_HAND: Final[Mapping[str, str]] = {
    "/messages/{message_id}/again": "a send, which is a member's own, as by the API; the operator's console refuses it",
    "/queue/preview": "counts what an order would be about, and orders nothing",
    "/ticket": "a ticket for the member's own stream, as POST /v1/stream/ticket gives it",
    "/sign-in": "begins the visitor's own session, by a link of `console login` or a key",
    "/sign-out": "ends the visitor's own session",
}
