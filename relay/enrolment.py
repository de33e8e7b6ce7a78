"""What a new member, domain or key needs made: random API keys, and the DKIM keys of a domain.

Whoever decides is asked before these are used: what is made here and not taken into the log is known to nobody.
"""

from __future__ import annotations

from relay.core import Core
from relay.decisions.members import NewDomain, NewKey
from relay.principals import FULL, Scope
from relay.times import utc


def new_key(core: Core, api_key: str, *, scope: Scope = FULL, category: str | None = None) -> NewKey:
    """Its id is public, and says nothing of the key."""
    key_id = f"{core.surroundings.dice.getrandbits(48):012x}"
    return NewKey(key_id, core.pepper.key_hash(api_key), scope, category)


async def make_keys(core: Core, domain: str) -> NewDomain:
    """The two pairs of a domain that is to be enrolled; their files are durable. It takes a tenth of a second of
    processor time, beside the loop. Raises KeyFileError."""
    stem = f"atmos{utc(core.store.now_us()):%Y%m%d}"
    rsa, ed25519 = await core.surroundings.offload(core.keyring.create, domain, stem)
    return NewDomain(domain, stem, rsa.public_key, ed25519.public_key)
