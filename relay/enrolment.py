"""What a new member or key needs made: a random API key. The DKIM keys of a domain: `relay.domains.key_pairs`.

Whoever decides is asked before these are used: what is made here and not taken into the log is known to nobody.
"""

from __future__ import annotations

from relay.core import Core
from relay.decisions.members import NewKey
from relay.principals import FULL, Scope


def new_key(core: Core, api_key: str, *, scope: Scope = FULL, category: str | None = None) -> NewKey:
    """Its id is public, and says nothing of the key."""
    key_id = f"{core.surroundings.dice.getrandbits(48):012x}"
    return NewKey(key_id, core.pepper.key_hash(api_key), scope, category)
