"""New DKIM keys for a domain: a selector stem of their own, and their files.

A stem is `atmosYYYYMMDD`, and has a number behind it where the name has had keys of that day. So two members who enrol
the same name, or one who enrols it again, never share a key, and what a receiver has cached under a selector is never
contradicted. A crash between the files and the event that speaks of them leaves files that the next try uses.
"""

from __future__ import annotations

from collections.abc import Container
from itertools import chain, count

from relay.core import Core
from relay.decisions.members import NewDomain
from relay.times import utc
from relay.views import members, signing_keys


async def make_keys(core: Core, domain: str) -> NewDomain:
    """Durable when it returns. Raises KeyFileError."""
    return await make_pair(core, domain, _new_stem(core, domain))


async def make_pair(core: Core, domain: str, stem: str) -> NewDomain:
    rsa, ed25519 = await core.surroundings.offload(core.keyring.create, domain, stem)
    return NewDomain(domain, stem, rsa.public_key, ed25519.public_key)


def stem_of_today(core: Core, used: Container[str]) -> str:
    today = f"atmos{utc(core.store.now_us()):%Y%m%d}"
    return next(stem for stem in chain([today], (f"{today}-{n}" for n in count(2))) if stem not in used)


def _new_stem(core: Core, domain: str) -> str:
    with core.store.read() as view:
        used = {stem for state in members.enrolments(view, domain) for stem in state.selector_stems}
        used |= {key.selector_stem for key in signing_keys.retired_of(view, domain)}
    return stem_of_today(core, used)
