"""Says which decentralised identifiers (DIDs) the relay takes for a member's name.

Contract: `is_valid_did` is true for exactly the two methods that atproto blesses, in the one spelling
that compares equal byte for byte:

* ``did:plc:`` and 24 characters of base32 (``a-z2-7``), as the PLC directory makes them.
* ``did:web:`` and a host name. atproto allows no path, and a port for local development only, so neither
  is taken; the host name is lower-case and has two labels or more, because a DID is compared as a string
  and one member must not have two.
"""

import re
from typing import Final

from relay.addresses import is_host_name

_is_plc: Final = re.compile(r"did:plc:[a-z2-7]{24}").fullmatch
_WEB: Final = "did:web:"


def is_valid_did(text: str) -> bool:
    """Whether `text` is a DID that can be a member's. Says nothing about whether it exists."""
    if text.startswith(_WEB):
        host = text[len(_WEB) :]
        return host == host.lower() and is_host_name(host)
    return _is_plc(text) is not None
