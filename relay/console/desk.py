"""What the pages about a member's own things ask for, in the words of both who see them.

A member asks for its own decisions (`relay.own_domains`, `relay.own_keys` ...), the operator for the commands of the
command line. Both answer the same JSON shapes, as the API and `--json` have them, so one page shows both. The
invariant: **a desk is about one member.** What a path names and is another member's is not found, also where the
operator asks, who could have it: a page that says whose it is must not show somebody else's.
"""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias

import msgspec

from relay.api.keys import ListedKey, listed_key
from relay.console.visit import Visit
from relay.fields import address_in, domain_in, note_in
from relay.own_domains import EnrolOwnDomain, OwnDomains, VerifyOwnDomain
from relay.own_keys import IssuedKey, IssueOwnKey, OwnKeys, RevokeOwnKey
from relay.own_webhooks import AddWebhook, OneWebhook, OwnWebhooks, ReplayWebhook
from relay.principals import Principal, Scope
from relay.refusals import Refusal
from relay.self_service import SetForwardTo, Suppress, Unsuppress

#: An object of JSON.
Shown: TypeAlias = dict[str, Any]


class Desk(Protocol):
    """Each raises Refusal, as the decision behind it does. What changes something is durable when it returns."""

    async def suppress(self, address: str, note: str) -> None: ...
    async def unsuppress(self, address: str) -> None: ...

    async def domains(self) -> list[Shown]:
        """As in `GET /v1/domains`."""

    async def enrol_domain(self, name: str) -> None: ...
    async def verify_domain(self, name: str) -> None: ...
    async def set_forward(self, domain: str, address: str) -> None:
        """ "": nobody is told any more."""

    async def keys(self) -> list[Shown]:
        """As in `GET /v1/keys`."""

    async def issue_key(self, scope: Scope | None, category: str | None) -> Shown:
        """With `apiKey`, which nothing shows again."""

    async def revoke_key(self, key_id: str, *, all_of_it: bool, self_too: bool) -> None: ...

    async def webhooks(self) -> list[Shown]:
        """As in `GET /v1/webhooks`."""

    async def webhook(self, webhook_id: str) -> Shown:
        """With its last `attempts`."""

    async def add_webhook(self, url: str, types: list[str], batch: int) -> Shown:
        """With its `secret`, which nothing shows again; so has `rotate_webhook`."""

    async def remove_webhook(self, webhook_id: str) -> None: ...
    async def pause_webhook(self, webhook_id: str) -> None: ...
    async def resume_webhook(self, webhook_id: str) -> None: ...
    async def rotate_webhook(self, webhook_id: str) -> Shown: ...
    async def replay_webhook(self, webhook_id: str, after: int, until: int | None) -> None: ...
    async def test_webhook(self, webhook_id: str) -> Shown:
        """The attempt."""


def desk_of(visit: Visit) -> Desk:
    return OperatorsDesk(visit) if visit.by_operator else OwnDesk(visit)


def _shown(answer: Any) -> Any:
    return msgspec.to_builtins(answer)


class OwnDesk:
    """A member's."""

    def __init__(self, visit: Visit) -> None:
        self._ask = visit.decide
        assert isinstance(visit.asker, Principal)
        self._own_key = visit.asker.key_id

    async def suppress(self, address: str, note: str) -> None:
        wanted = Suppress(address=address_in("recipient", address), note=note_in("note", note))
        await self._ask("suppress", wanted)

    async def unsuppress(self, address: str) -> None:
        await self._ask("unsuppress", Unsuppress(address=address_in("recipient", address)))

    async def domains(self) -> list[Shown]:
        found: list[Shown] = _shown(await self._ask("own_domains", OwnDomains()))
        return found

    async def enrol_domain(self, name: str) -> None:
        await self._ask("enrol_own_domain", EnrolOwnDomain(domain=domain_in("domain", name)))

    async def verify_domain(self, name: str) -> None:
        await self._ask("verify_own_domain", VerifyOwnDomain(domain=domain_in("domain", name)))

    async def set_forward(self, domain: str, address: str) -> None:
        to = address_in("forward_to", address) if address else None
        await self._ask("set_forward_to", SetForwardTo(domain=domain_in("domain", domain), address=to))

    async def keys(self) -> list[Shown]:
        states = await self._ask("own_keys", OwnKeys())
        keys: list[ListedKey] = [listed_key(state, self._own_key) for state in states]
        found: list[Shown] = _shown(keys)
        return found

    async def issue_key(self, scope: Scope | None, category: str | None) -> Shown:
        made: IssuedKey = await self._ask("issue_own_key", IssueOwnKey(scope=scope, category=category))
        return {**_shown(listed_key(made.state, self._own_key)), "apiKey": made.api_key}

    async def revoke_key(self, key_id: str, *, all_of_it: bool, self_too: bool) -> None:
        wanted = RevokeOwnKey(key_id=key_id, all_of_it=all_of_it, self_too=self_too)
        await self._ask("revoke_own_key", wanted)

    async def webhooks(self) -> list[Shown]:
        found: list[Shown] = _shown(await self._ask("own_webhooks", OwnWebhooks()))
        return found

    async def webhook(self, webhook_id: str) -> Shown:
        one = OneWebhook(webhook_id=webhook_id)
        webhook = _shown(await self._ask("own_webhook", one))
        return {**webhook, "attempts": _shown(await self._ask("own_webhook_attempts", one))}

    async def add_webhook(self, url: str, types: list[str], batch: int) -> Shown:
        wanted = AddWebhook(url=url, types=tuple(types), batch=batch)
        made: Shown = _shown(await self._ask("add_own_webhook", wanted))
        return made

    async def remove_webhook(self, webhook_id: str) -> None:
        await self._ask("remove_own_webhook", OneWebhook(webhook_id=webhook_id))

    async def pause_webhook(self, webhook_id: str) -> None:
        await self._ask("pause_own_webhook", OneWebhook(webhook_id=webhook_id))

    async def resume_webhook(self, webhook_id: str) -> None:
        await self._ask("resume_own_webhook", OneWebhook(webhook_id=webhook_id))

    async def rotate_webhook(self, webhook_id: str) -> Shown:
        made: Shown = _shown(await self._ask("rotate_own_webhook", OneWebhook(webhook_id=webhook_id)))
        return made

    async def replay_webhook(self, webhook_id: str, after: int, until: int | None) -> None:
        wanted = ReplayWebhook(webhook_id=webhook_id, after_seq=after, until_seq=until)
        await self._ask("replay_own_webhook", wanted)

    async def test_webhook(self, webhook_id: str) -> Shown:
        attempt: Shown = _shown(await self._ask("test_own_webhook", OneWebhook(webhook_id=webhook_id)))
        return attempt


class OperatorsDesk:
    """The operator's, at one member's pages."""

    def __init__(self, visit: Visit) -> None:
        self._order = visit.order
        self._did = visit.did

    async def suppress(self, address: str, note: str) -> None:
        await self._order("suppression_add", did=self._did, recipient=address, note=note or None)

    async def unsuppress(self, address: str) -> None:
        await self._order("suppression_remove", did=self._did, recipient=address)

    async def domains(self) -> list[Shown]:
        member = await self._order("member_show", did=self._did)
        found: list[Shown] = member["domains"]
        return found

    async def enrol_domain(self, name: str) -> None:
        await self._order("domain_add", did=self._did, domain=name)

    async def verify_domain(self, name: str) -> None:
        await self._order("domain_verify", did=self._did, domain=name)

    async def set_forward(self, domain: str, address: str) -> None:
        await self._order("domain_set_forward", did=self._did, domain=domain, to=address)

    async def keys(self) -> list[Shown]:
        return [{**key, "isYours": False} for key in await self._order("key_list", did=self._did)]

    async def issue_key(self, scope: Scope | None, category: str | None) -> Shown:
        made: Shown = await self._order("key_issue", did=self._did, scope=scope, category=category)
        return made

    async def revoke_key(self, key_id: str, *, all_of_it: bool, self_too: bool) -> None:
        await self._order("key_revoke", did=self._did, key_id=key_id, all_of_it=all_of_it)

    async def webhooks(self) -> list[Shown]:
        found: list[Shown] = await self._order("webhook_list", did=self._did)
        return found

    async def webhook(self, webhook_id: str) -> Shown:
        found: Shown = await self._order("webhook_show", webhook_id=webhook_id)
        if found["did"] != self._did:
            raise Refusal("NOT_FOUND", f"webhook: this member has no {webhook_id[:100]}")
        return found

    async def add_webhook(self, url: str, types: list[str], batch: int) -> Shown:
        # A webhook that the operator adds is the operator's own, and hears of all members.
        raise Refusal("CONFLICT", "webhook: only the member itself can add one of its own")

    async def remove_webhook(self, webhook_id: str) -> None:
        await self._ordered("webhook_remove", webhook_id)

    async def pause_webhook(self, webhook_id: str) -> None:
        await self._ordered("webhook_pause", webhook_id)

    async def resume_webhook(self, webhook_id: str) -> None:
        await self._ordered("webhook_resume", webhook_id)

    async def rotate_webhook(self, webhook_id: str) -> Shown:
        made: Shown = await self._ordered("webhook_rotate", webhook_id)
        return made

    async def replay_webhook(self, webhook_id: str, after: int, until: int | None) -> None:
        await self._ordered("webhook_replay", webhook_id, after=after, until=until)

    async def test_webhook(self, webhook_id: str) -> Shown:
        attempt: Shown = await self._ordered("webhook_test", webhook_id)
        return attempt

    async def _ordered(self, command: str, webhook_id: str, **more: Any) -> Any:
        await self.webhook(webhook_id)
        return await self._order(command, webhook_id=webhook_id, **more)
