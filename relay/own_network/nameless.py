"""Warnings, at the start, of addresses by which mail does not go out, or is refused.

Where this machine has no address of any family in `[delivery] families`, no mail goes out, and each message is put off
without a word of why. A machine that has IPv6 alone is so by default.

IPv6 is only for who has set it up: large receivers refuse mail from an address without a reverse name, and IPv6
addresses have none by themselves. So names are not looked at where `[delivery] families` has IPv4 alone.
"""

from __future__ import annotations

import logging

from relay.core import Core
from relay.internet.own_addresses import own_addresses, source_addresses
from relay.own_network.names import look_at_reverse_name

#: Where no family that mail goes out by leads anywhere.
NO_WAY_FIX = (
    "give this machine such an address and a route, or name the family that it has in [delivery] families (IPv6: "
    "docs/PROVIDERS.md, step 1)"
)

logger = logging.getLogger(__name__)


async def warn_of_nameless_addresses(core: Core) -> None:
    """Look once, and say what is wrong. What the DNS cannot tell is no reason to warn."""
    delivery, name = core.config.delivery, core.config.ehlo_name
    if "*" in delivery.routes:
        return
    if not await source_addresses(delivery.families):
        logger.warning("delivery.no_address", extra={"families": list(delivery.families), "fix": NO_WAY_FIX})
    if "ipv6" not in delivery.families:
        return
    resolver = core.surroundings.dns()
    for own in await own_addresses(resolver, ehlo_name=name, families=("ipv6",)):
        finding = await look_at_reverse_name(resolver, name, own)
        if finding.ok is False:
            logger.warning(
                "delivery.address_without_name",
                extra={"address": finding.about, "found": finding.found, "fix": finding.fix},
            )
