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


def why_no_did(text: str) -> str:
    """A sentence for people about what `is_valid_did` refuses: what it looks like, and what is expected. It repeats
    nothing of it."""
    if text != text.strip():
        return "has white space around it; leave that out"
    if text.startswith("at://"):
        return "is an at:// address; leave out what is not the DID itself"
    if text != text.lower() and is_valid_did(text.lower()):
        return "has upper-case letters; a DID is written in lower case"
    if text.startswith("did:plc:"):
        return "is no did:plc, which ends in 24 characters of a-z and 2-7"
    if text.startswith(_WEB):
        return "is no did:web that is taken here: a host name in lower case, without port or path"
    if text.startswith("did:"):
        return "is of another method; did:plc: and did:web: are taken"
    if is_host_name(text.removeprefix("@")):
        return "is a handle; give the DID that it stands for, which stays when a handle changes"
    return "is not a valid did:plc: or did:web:"


def is_valid_did(text: str) -> bool:
    """Whether `text` is a DID that can be a member's. Says nothing about whether it exists."""
    if text.startswith(_WEB):
        host = text[len(_WEB) :]
        return host == host.lower() and is_host_name(host)
    return _is_plc(text) is not None
