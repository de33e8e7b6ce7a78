"""Where a webhook may go, judged when it is added: whoever adds it hears at once what will not work.

The invariant: **nobody reaches the relay's own network by a webhook, unless the operator's configuration names the
place and whose webhooks may go there.** All else is https. `relay.internet.https` sees to that before each connection,
with the same judgement of the URL, and with the addresses that its host has then; what is allowed is asked of the
configuration at each use. An address that is written in the URL itself is refused here already.
"""

from __future__ import annotations

import ipaddress
from functools import partial

from relay.internet.https import FetchError, parse_url
from relay.internet.public_addresses import why_not_public
from relay.webhook_targets import WebhooksConfig


def check_url(url: str, did: str, config: WebhooksConfig) -> None:
    """Of a member's webhook, or with NOBODY of the operator's. Raises FetchError with a sentence that says what is
    wrong with it."""
    where = parse_url(url, partial(config.allows, did))
    kind = None if where.is_permitted else _why_no_public_literal(where.host)
    if kind is not None:
        raise FetchError(f"the URL's host is a {kind} address; only public ones are connected to", "url")


def _why_no_public_literal(host: str) -> str | None:
    """What kind of address the host is, where it is one that is not for everybody to reach."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    return why_not_public(address)
