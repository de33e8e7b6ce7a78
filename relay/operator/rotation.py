"""The operator's command that gives a domain new DKIM keys, a member's or the operator's own."""

from __future__ import annotations

from typing import Any

from relay.core import Core
from relay.decisions import rotation as decisions
from relay.decisions.members import named_domain
from relay.domains.key_pairs import make_keys, make_pair, stem_of_today
from relay.domains.rotation import Waiting, bring_into_use, look_for
from relay.events import SigningKeyDeleted
from relay.fields import domain_in
from relay.operator.membership_shown import domain_answer, operator_answer
from relay.operator.protocol import CommandAnswer
from relay.principals import Operator
from relay.registry import Arguments, decision
from relay.times import DAY_US
from relay.views import signing_keys


class DomainRotateKey(Arguments, frozen=True, kw_only=True):
    domain: str
    #: Needed where several members have the name enrolled.
    did: str | None = None
    #: Bring it into use without looking at the DNS.
    now: bool = False


@decision(by=Operator)
async def domain_rotate_key(core: Core, order: DomainRotateKey, by: Operator) -> CommandAnswer:
    """Make new keys, where none wait already, and look whether the DNS has them. Given again it goes on where it was:
    so it is also the way to hurry the relay. Cancelled between the files and their event: the next order makes others.
    """
    name = domain_in("domain", order.domain)
    if name == core.config.operator_domain and order.did is None:
        made = await _operators(core, by)
    else:
        made = await _members(core, order.did, name, by)
    checks: list[dict[str, Any]] = []
    if order.now:
        await bring_into_use(core, made)
    else:
        for finding in await look_for(core, made, core.surroundings.dns()):
            checks.append({"name": finding.record.name, "ok": finding.ok, "fix": finding.fix})
    answer = _answer(core, made)
    return {**answer, "made": made.key.selector_stem, "checks": checks}


async def _members(core: Core, did: str | None, name: str, by: Operator) -> Waiting:
    with core.store.read() as view:
        state = named_domain(view, did, name)
    if state.next_key is None:
        new = await make_keys(core, name)
        await core.store.decide(lambda view: decisions.create_key(view, state.did, new, by.user))
        with core.store.read() as view:
            state = named_domain(view, state.did, name)
    assert state.next_key is not None
    return Waiting(state.did, name, state.next_key)


async def _operators(core: Core, by: Operator) -> Waiting:
    domain, first = core.config.operator_domain, core.operator_stem
    # Before there is a newer file: of an operator's keys that no event names, the newest sign.
    await core.store.decide(lambda view: decisions.name_operator_key(view, domain, first))
    with core.store.read() as view:
        key = signing_keys.operator_key(view, domain)
        used = {old.selector_stem for old in signing_keys.retired_of(view, domain)}
    assert key is not None
    if key.next_key is None:
        stem = stem_of_today(core, used | set(core.keyring.stems(domain)))
        new = await make_pair(core, domain, stem)
        await core.store.decide(lambda view: decisions.create_operator_key(view, new, by.user))
        with core.store.read() as view:
            key = signing_keys.operator_key(view, domain)
    assert key is not None
    assert key.next_key is not None
    return Waiting(None, domain, key.next_key)


def _answer(core: Core, made: Waiting) -> dict[str, Any]:
    if made.did is None:
        return operator_answer(core)
    with core.store.read() as view:
        state = named_domain(view, made.did, made.domain)
    return domain_answer(core, state)


async def delete_old_keys(core: Core) -> None:
    """Delete the files of retired keys that nothing needs any more, and say so in the log.

    Each is kept for the time of retention at least: until nobody has its public half in a cache any more, and a stem,
    which holds a date, cannot come again. The files go first. Killed before the event: done again.
    """
    oldest = core.store.now_us() - core.config.spool.retention_days * DAY_US
    with core.store.read() as view:
        over = [
            key
            for key in signing_keys.retired(view)
            if key.retired_at <= oldest and not signing_keys.is_needed(view, key)
        ]
    for key in over:
        await core.surroundings.offload(core.keyring.delete, key.domain, key.selector_stem)
        await core.store.append([SigningKeyDeleted(domain=key.domain, selector_stem=key.selector_stem)])
