"""The door for strangers: reports about what went out, the operator's mail, replies to members (INBOUND.md).

The contract is that of `relay.reception.interface.Door`. Of its own:

- *MAIL*: any sender, also none. Of one address only so many a minute.
- *RCPT* is decided by one table (`destinations`). A transaction has one destination; a recipient with another one is
  told to come by itself, which every mail server does.
- *DATA*: a mail that has been here before is a loop. What it says is read apart from the loop (`MailReader`), and then:
  a report that shows a token of a message of ours is recorded; what is for the operator is passed on; what is for a
  member is passed on if it is a reply, or the setting says all.
- **Nothing is answered by a mail**: what is refused is refused here. So nobody can make the relay write to a third.
- *250* means that it is in the log. A repeat is answered 250 as well, and writes nothing.

What a report is believed for is the token alone: it stands where only a receiver of the message has seen it. A person's
mail to the operator may quote one, so outside of the addresses that are made of tokens only what has the form of a
report is one. Who signed it is asked of complaints only, where it decides what follows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
import trio

from relay.addresses import AddressError, parse_address
from relay.codec import Recorded
from relay.decisions.inbound_mail import is_known_sender, is_reply
from relay.decisions.reports import REPORTS_MAX, has_all_its_reports
from relay.edge import LOG_UNAVAILABLE, Edge
from relay.events import NOBODY, SendAccepted
from relay.internet.reverse import confirmed_name
from relay.internet.spf import spf_passes
from relay.mail_reading import DELIVERY_REPORTS, NotReadNow, Reading
from relay.message.forward import is_looping
from relay.message.lines import LINE_OCTETS_MAX, long_line
from relay.principals import Stranger
from relay.receiving import Mail, Report, ToPassOn
from relay.reception.destinations import (
    AboutMessage,
    Destination,
    ForMember,
    ForOperator,
    RefusedRecipient,
    destination,
    is_urgent,
)
from relay.reception.interface import Admitted, Client, Message, Transaction, Visit
from relay.reception.refused import reply_to_stranger, too_fast
from relay.reception.replies import Reply
from relay.refusals import Refusal, unavailable
from relay.views import messages

#: What has the form of a report.
_REPORTS: Final = (*DELIVERY_REPORTS, "feedback")
#: Message ids of which it is remembered that they have all the reports that they will ever have.
_FULL_KEPT: Final = 10_000
#: Of sends that a mail claims to answer. An honest one names the one that it answers first.
_SENDS_READ_MAX: Final = 5

_SENDER_OK: Final = Reply(250, "2.1.0", "sender ok")
_RECIPIENT_OK: Final = Reply(250, "2.1.5", "recipient ok")
_TAKEN: Final = Reply(250, "2.0.0", "taken")
_ANOTHER: Final = Reply(452, "4.5.3", "this one goes elsewhere; send it to this one by itself")
_TOO_MANY_REPORTS: Final = Reply(
    550, "5.7.1", f"{REPORTS_MAX} reports about this message are here already, the most for one"
)
_NOT_READ: Final = Reply(451, "4.3.0", "the mail cannot be read now; come again later")
_LOOP: Final = Reply(550, "5.4.6", "this mail was passed on by this relay before: it goes in a circle")
_LONG_LINE: Final = Reply(
    554, "5.6.0", f"a line is over {LINE_OCTETS_MAX} octets: it cannot be passed on as it is"
)
_NO_REPLY: Final = Reply(
    550,
    "5.7.1",
    "only replies are taken here: answer a mail that came from this address with your program's Reply, from the"
    " address that got it; or look on the sender's web site for another way to reach them",
)


class Inbound:
    """One for all connections of a relay's ports for strangers."""

    def __init__(self, edge: Edge) -> None:
        assert edge.mail_reader is not None, "mail comes in, and nobody reads it"
        self._edge = edge
        self._reader = edge.mail_reader
        self._full: dict[int, None] = {}

    # ------------------------------------------------------------------------------------------------ the questions

    async def authenticate(self, user: str, password: str, client: Client) -> Admitted[None] | Reply:
        raise AssertionError("a port for strangers has no AUTH")

    async def mail(self, visit: Visit[None], transaction: Transaction) -> Reply:
        try:
            await self._edge.take_message(visit.client.counted_as)
        except Refusal as refusal:
            # Where another counts, it may be out of reach.
            return too_fast(refusal) if refusal.code == "RATE_LIMITED" else reply_to_stranger(refusal)
        return _SENDER_OK

    async def recipient(self, visit: Visit[None], transaction: Transaction, recipient: str) -> Reply:
        found = self._destination(recipient)
        if isinstance(found, RefusedRecipient) and self._edge.node is not None:
            # At a node that follows: the domain, or the message that is answered, may be new.
            try:
                await self._edge.node.catch_up()
            except Refusal as refusal:
                return self._refuse_recipient(RefusedRecipient("not_known_yet", reply_to_stranger(refusal)))
            found = self._destination(recipient)
        if isinstance(found, RefusedRecipient):
            return self._refuse_recipient(found)
        if transaction.recipients:
            if found != self._destination(transaction.recipients[0]):
                return self._refuse_recipient(RefusedRecipient("another_destination", _ANOTHER))
        elif isinstance(found, AboutMessage) and self._has_all_its_reports(found.message_id):
            return self._refuse_recipient(RefusedRecipient("too_many_reports", _TOO_MANY_REPORTS))
        return _RECIPIENT_OK

    async def data(self, visit: Visit[None], transaction: Transaction, message: Message) -> Reply:
        found = self._destination(transaction.recipients[0])
        if isinstance(found, RefusedRecipient):  # it was removed, or a setting changed, meanwhile
            return self._refuse_recipient(found)
        try:
            return await self._take(visit, transaction, message, found)
        except Refusal as refusal:
            return self._refuse(refusal.code.lower(), reply_to_stranger(refusal))
        except LOG_UNAVAILABLE:
            return self._refuse("temporarily_unavailable", reply_to_stranger(unavailable()))
        except NotReadNow:
            return self._refuse("not_read", _NOT_READ)

    # ------------------------------------------------------------------------------------------------ a message

    async def _take(
        self, visit: Visit[None], transaction: Transaction, message: Message, found: Destination
    ) -> Reply:
        if is_looping(message.octets, self._edge.bounce_addresses):
            return self._refuse("loop", _LOOP)
        party = visit.client.counted_as
        reading = await self._reader.read(message.octets, party)
        mail = Mail(
            octets=message.octets,
            sha256=message.sha256.hex(),
            mail_from=transaction.mail_from,
            rcpt_to=tuple(transaction.recipients),
            client_address=visit.client.address,
            ehlo_name=visit.ehlo_name,
            received_with=_protocol(visit, transaction),
            reading=reading,
        )
        message_id = found.message_id if isinstance(found, AboutMessage) else self._reported(reading)
        if message_id is not None:
            await self._edge.decide("take_report", await self._report(message_id, mail, party), Stranger())
            return _TAKEN
        if long_line(message.octets) is not None:
            return self._refuse("long_line", _LONG_LINE)
        assert not isinstance(found, AboutMessage)
        if isinstance(found, ForOperator):
            wanted = ToPassOn(
                mail=mail,
                kind="operator",
                did=NOBODY,
                domain=found.domain,
                is_for_postmaster=any(is_urgent(each, self._edge.config) for each in mail.rcpt_to),
            )
        else:
            is_replying = await self._is_replying(found, mail, party)
            if not (is_replying or found.is_for_postmaster or self._edge.config.inbound.forward == "all"):
                if self._edge.node is not None:
                    # What is answered may be new at a node that follows.
                    await self._edge.node.catch_up()
                    is_replying = await self._is_replying(found, mail, party)
                if not is_replying:
                    return self._refuse("no_reply", _NO_REPLY)
            wanted = ToPassOn(
                mail=mail, kind="reply" if is_replying else "other", did=found.did, domain=found.domain
            )
        await self._edge.decide("take_mail", wanted, Stranger())
        return _TAKEN

    async def _report(self, message_id: int, mail: Mail, party: str) -> Report:
        client_name = await confirmed_name(self._edge.resolver, mail.client_address)
        signed_by: tuple[str, ...] = ()
        provider = None
        if mail.reading.verdict == "complaint":
            signed_by = await self._reader.signed_by(mail.octets, mail.reading.signatures, party)
            believed = self._edge.config.inbound.feedback_providers
            # The token must stand in what was signed: any report that a provider signed can be brought in an envelope
            # with another message's.
            if self._reported(mail.reading) == message_id:
                provider = next((name for name in signed_by if is_at_or_below(name, believed)), None)
        return Report(
            message_id=message_id, mail=mail, client_name=client_name, signed_by=signed_by, provider=provider
        )

    def _reported(self, reading: Reading) -> int | None:
        """The message that a report is about by what it encloses; None: it is none, or about no message of ours."""
        if reading.kind not in _REPORTS:
            return None
        with self._edge.store.read() as view:
            for token in reading.tokens:
                message_id = self._edge.bounce_addresses.parse_token(token)
                if message_id is not None and messages.message(view, message_id) is not None:
                    return message_id
        return None

    # ------------------------------------------------------------------------------------------------ replies

    async def _is_replying(self, found: ForMember, mail: Mail, party: str) -> bool:
        is_reply = await self._is_reply(found, mail.reading)
        return is_reply or await self._is_from_known_sender(found, mail, party)

    async def _is_reply(self, found: ForMember, reading: Reading) -> bool:
        """A send may be 10 MiB, and its number is no secret: so each is read once, few are, and others come between."""
        store = self._edge.store
        sends: dict[int, Recorded] = {}

        def get(seq: int) -> Recorded:
            if seq not in sends:
                recorded = store.get(seq)
                assert isinstance(recorded.event, SendAccepted)
                sends[seq] = recorded._replace(event=msgspec.structs.replace(recorded.event, personal=None))
            return sends[seq]

        for reference in reading.references:
            with store.read() as view:
                if is_reply(view, found.did, found.domain, [reference], get):
                    return True
            if len(sends) == _SENDS_READ_MAX:
                break
            await trio.lowlevel.checkpoint()
        return False

    async def _is_from_known_sender(self, found: ForMember, mail: Mail, party: str) -> bool:
        """Whether this domain wrote to the sender lately, and the mail is the sender's: anybody can write any name onto
        an envelope."""
        try:
            sender = parse_address(mail.mail_from)
        except AddressError:  # as is the null sender
            return False
        with self._edge.store.read() as view:
            now_us = self._edge.store.now_us()
            if not is_known_sender(view, found.did, found.domain, sender, now_us):
                return False
        domain = sender.rpartition("@")[2]
        signed_by = await self._reader.signed_by(mail.octets, mail.reading.signatures, party)
        if any(is_aligned(name, domain) for name in signed_by):
            return True
        passes = await spf_passes(
            self._edge.resolver,
            client_address=mail.client_address,
            mail_from=sender,
            ehlo_name=mail.ehlo_name,
        )
        return passes is not None

    # ------------------------------------------------------------------------------------------------ leaves

    def _destination(self, recipient: str) -> Destination | RefusedRecipient:
        edge = self._edge
        with edge.store.read() as view:
            return destination(view, edge.config, edge.bounce_addresses, recipient)

    def _has_all_its_reports(self, message_id: int) -> bool:
        """Once it has, it has for good, and its story is not read for each who asks."""
        if message_id in self._full:
            return True
        store = self._edge.store
        with store.read() as view:
            seqs = messages.timeline(view, message_id)
            if len(seqs) <= REPORTS_MAX or not has_all_its_reports([store.get(seq) for seq in seqs]):
                return False
        self._full[message_id] = None
        if len(self._full) > _FULL_KEPT:
            del self._full[next(iter(self._full))]
        return True

    def _refuse_recipient(self, refused: RefusedRecipient) -> Reply:
        self._edge.metrics.inbound_recipients_refused.labels(refused.why).inc()
        return refused.reply

    def _refuse(self, why: str, reply: Reply) -> Reply:
        self._edge.metrics.inbound_refused.labels(why).inc()
        return reply


def is_at_or_below(name: str, domains: Sequence[str]) -> bool:
    return any(name == domain or name.endswith(f".{domain}") for domain in domains)


def is_aligned(signer: str, domain: str) -> bool:
    """Whether who signs for one speaks for the other: the same domain, or one of them below the other. Where the line
    of an organisation runs (RFC 7489 section 3.2) nobody can tell without a list of public suffixes; this is less."""
    return is_at_or_below(signer, [domain]) or is_at_or_below(domain, [signer])


def _protocol(visit: Visit[None], transaction: Transaction) -> str:
    """RFC 6531 section 3.7.3: UTF8SMTPS."""
    return f"UTF8{visit.protocol[1:]}" if transaction.smtputf8 else visit.protocol
