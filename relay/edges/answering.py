"""The core's side of the channel to one edge: what it is asked and told by it, and what it has of it.

The invariant: **an edge is believed nothing that the core can find out itself.** The member that it names is one whose
key is looked at again in the decision; it can name no operator; what it asks for is decoded as the type that the
decision has. So by this channel an edge that was taken over can ask for what its clients could ask for, and nothing
else. (It is a process of the relay's user all the same, as the admin socket takes orders from: no fence is there.)

A defect in a decision is an answer to whoever asked, as it is without edges: a 500 with a request id, which is in the
core's log. It must not end the core.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from typing import Any, Final

import msgspec

from relay import (
    acceptance,
    batches,
    console_logins,
    console_sign_in,
    own_domains,
    own_keys,
    own_messages,
    own_webhooks,
    receiving,
    self_service,
    unsubscribing,
)
from relay.core import Core
from relay.dids import is_valid_did
from relay.edge import DecisionFailedError
from relay.edges import words
from relay.news import News
from relay.principals import Stranger
from relay.processes.carried import CARRIED
from relay.processes.channel import Channel
from relay.processes.frames import BrokenFrame
from relay.refusals import Refusal
from relay.registry import DECISIONS, Decision
from relay.views import members

logger = logging.getLogger(__name__)

#: Importing them has made known what members and strangers may ask for (`relay.registry`): in a core whose edges serve
#: there are no doors that would.
ASKED_FOR: Final = (
    acceptance,
    batches,
    console_logins,
    console_sign_in,
    own_domains,
    own_keys,
    own_messages,
    own_webhooks,
    receiving,
    self_service,
    unsubscribing,
)

_STRANGER: Final = Stranger()


class OneEdge:
    """What the core does for one edge."""

    def __init__(self, core: Core, name: str, channel: Channel) -> None:
        self._core = core
        self._name = name
        self._places = core.stream_places.held()
        #: What the edge has to hear: asked for by whoever tells it.
        self.news = News(self._places)
        core.store.observers.append(self.news.observe)
        core.console_links.ended.append(self.news.revoked)
        core.metrics_page.add(name, lambda: channel.tell(words.Count()))

    def lose(self) -> None:
        """It has ended, and all that it asked is answered."""
        self._core.store.observers.remove(self.news.observe)
        self._core.console_links.ended.remove(self.news.revoked)
        self._core.metrics_page.lose(self._name)
        self._places.lose()

    async def answer(self, question: Any) -> Any:
        """Raises what is carried (`relay.processes.carried`), and nothing else."""
        try:
            match question:
                case words.Decide():
                    return await self._decide(question)
                case words.TakeMessage(address):
                    await self._core.take_message(address)
                case words.WhyNotAccepting():
                    why = await self._core.why_not_accepting()
                    return why and words.Why(why.code, why.message, why.retry_after_seconds)
                case words.TakePlace(did, ticket, session):
                    return await self._places.take(did, ticket, session)
                case words.CatchUp():
                    if self._core.node is not None:
                        await self._core.node.catch_up()
                case words.MetricsPage():
                    return await self._core.metrics_page.text()
                case _:
                    raise BrokenFrame(f"{type(question).__name__} is asked, and can only be told")
        except Exception as error:
            # Exactly: what is derived from one of them is not carried (a KeyError is a defect).
            if type(error) in CARRIED or isinstance(error, BrokenFrame):
                raise
            if isinstance(error, DecisionFailedError):
                # Of the node that leads: its log has it.
                raise Refusal("INTERNAL_ERROR", error.request_id) from error
            request_id = secrets.token_hex(8)
            logger.exception("edge.defect", extra={"request_id": request_id})
            raise Refusal("INTERNAL_ERROR", request_id) from error

    def hear(self, news: Any) -> None:
        match news:
            case words.Refused(writes):
                if not all(is_valid_did(did) and count > 0 for did, count in writes.items()):
                    raise BrokenFrame("it tells of refused writes that there cannot be")
                with self._core.store.read() as view:
                    known = [did for did in writes if members.member(view, did) is not None]
                for did in known:
                    self._core.quota.count_refused(did, writes[did])
            case words.LeavePlace(did):
                self._places.leave(did)
            case words.Counted(families):
                self._core.metrics_page.told(self._name, families)
            case _:
                raise BrokenFrame(f"{type(news).__name__} is told, and can only be asked")

    async def _decide(self, asked: words.Decide) -> Any:
        found = DECISIONS.get(asked.name)
        if found is None:
            raise LookupError(asked.name)
        arguments = decoder_of(found)(asked.arguments)
        return await self._core.decide(asked.name, arguments, asked.member or _STRANGER, is_counted=False)


_decoders: Final[dict[str, Callable[[msgspec.Raw], Any]]] = {}


def decoder_of(found: Decision) -> Callable[[msgspec.Raw], Any]:
    """Of a decision's arguments. Raises msgspec.MsgspecError and its like."""
    decode = _decoders.get(found.name)
    if decode is None:
        decode = _decoders[found.name] = msgspec.msgpack.Decoder(found.arguments).decode
    return decode
