"""The door for members: what is submitted over SMTP becomes a send, by the decision that HTTP's sends go through.

The contract is that of `relay.reception.interface.Door`. Of its own:

- *Who*: the user is a DID, a domain that is enrolled under one, or a member's handle, as the log has it: nothing is
  looked up outside. The password is one of that member's API keys. Every wrong pair is the same 535, found by the same
  work.
- *RCPT* is checked for its form, and for how many could ever be sent to at once. All else (suppression, pause, limits)
  is decided at the end of DATA, once, for the message as a whole.
- *A retry is recognised* before anything else is looked at: the same MAIL, RCPTs and message from the same member
  within 24 hours are answered with the same ids, where the message has a Message-ID and a Date of its own; without
  them two equal messages may be two. The member's own X-Atmos-Idempotency-Key overrides that.
- *250* says the ids of the messages, which are consecutive, in the order of the recipients.

Sources: RFC 6409, RFC 4954, RFC 5321 sections 4.5.3.1 and 4.5.5.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import partial

from relay import acceptance
from relay.acceptance import Idempotency, Send, Sent
from relay.addresses import AddressError, Mailbox, parse_address, parse_domain, parse_mailbox
from relay.authentication import authenticate, check_not_suspended, check_still
from relay.decisions.limits import most_at_once
from relay.decisions.send import check_own_domain
from relay.dids import is_valid_did
from relay.edge import LOG_UNAVAILABLE, Edge
from relay.events import Content
from relay.message.submitted import SubmissionError, Submitted, read_submitted
from relay.principals import Principal
from relay.reception.interface import Admitted, Client, Message, Transaction, Visit
from relay.reception.refused import bad_recipient, bad_sender, reply_to, reply_to_message, too_many_at_once
from relay.reception.replies import WRONG_CREDENTIALS, Reply
from relay.refusals import Refusal, unavailable
from relay.requests import DEFAULT_CATEGORY, BySmtp, SendRequest
from relay.views import handles, members
from spool.views import Snapshot

#: No DID, so nobody's. Looked for where there is no such user, so that it takes as long as where there is.
_NOBODY = "nobody"
_DIGEST_LABEL = b"atmos-relay submission 1"


class Submission:
    """One for all connections of a relay's submission ports."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge

    # ------------------------------------------------------------------------------------------------ the questions

    async def authenticate(self, user: str, password: str, client: Client) -> Admitted[Principal] | Reply:
        answer = self._authenticated(user, password)
        if not isinstance(answer, Reply) or self._edge.node is None:
            return answer
        try:
            # At a node that follows: it may have been made a moment ago, or its member let in again.
            await self._edge.node.catch_up()
        except Refusal as refusal:
            return reply_to(refusal)
        return self._authenticated(user, password)

    def _authenticated(self, user: str, password: str) -> Admitted[Principal] | Reply:
        with self._edge.store.read() as view:
            for did in _dids_of(view, user):
                try:
                    who, member = authenticate(view, self._edge.pepper, did, password)
                except Refusal:
                    continue
                try:
                    check_not_suspended(member)
                except Refusal as refusal:
                    return reply_to(refusal)
                return Admitted(who, who.did)
        return WRONG_CREDENTIALS

    async def mail(self, visit: Visit[Principal], transaction: Transaction) -> Reply:
        who = _who(visit)
        try:
            await self._check(lambda view: check_still(view, who))
            # Before a body is read, and for a retry as well: that it is one is not known before.
            self._edge.quota.take_write(who.did)
            if transaction.mail_from:
                domain = _domain(transaction.mail_from)
                await self._check(lambda view: check_own_domain(view, who.did, domain, "MAIL FROM"))
        except AddressError as error:
            return bad_sender(str(error))
        except Refusal as refusal:
            return self._refused(refusal)
        return Reply(250, "2.1.0", "sender ok")

    async def recipient(self, visit: Visit[Principal], transaction: Transaction, recipient: str) -> Reply:
        try:
            parse_address(recipient)
        except AddressError as error:
            return bad_recipient(str(error))
        # Over the limits for good: refused at the end of DATA it would come again as it is, for days.
        count = len({*transaction.recipients, recipient})
        most = self._most_at_once(_who(visit), transaction) if count > 1 else 1
        return too_many_at_once(most) if count > most else Reply(250, "2.1.5", "recipient ok")

    async def data(self, visit: Visit[Principal], transaction: Transaction, message: Message) -> Reply:
        try:
            sent = await self._send(_who(visit), visit, transaction, message)
        except SubmissionError as error:
            self._edge.metrics.refused.labels("INVALID_REQUEST").inc()
            return reply_to_message(error)
        except Refusal as refusal:
            return self._refused(refusal)
        except LOG_UNAVAILABLE:
            return self._refused(unavailable())
        ids = sent.ids
        named = f"{ids[0]}" if len(ids) == 1 else f"{ids[0]}-{ids[-1]}"
        return Reply(250, "2.0.0", f"accepted as {named}")

    # ------------------------------------------------------------------------------------------------ a message

    async def _send(
        self, who: Principal, visit: Visit[Principal], transaction: Transaction, message: Message
    ) -> Sent:
        await self._check(lambda view: check_still(view, who))
        read = partial(
            read_submitted,
            smtputf8=transaction.smtputf8,
            default_category=who.category or DEFAULT_CATEGORY,
        )
        async with self._edge.heavy_work.turn(who.did, len(message.octets)) as do:
            submitted: Submitted = await do(read, message.octets)
        digest = _digest(who.did, transaction, message)
        key = _idempotency_key(submitted, digest)
        idempotency = None if key is None else Idempotency(key, digest)
        if idempotency is not None:
            first = acceptance.first_use(self._edge.store, who, idempotency)
            if first is not None:
                return first
        wanted = Send(
            request=_request(submitted, visit, transaction, normalised=message.normalised),
            client_address=visit.client.address,
            idempotency=idempotency,
            body_sha256=digest,
            size=len(message.octets),
        )
        sent: Sent = await self._edge.decide("send", wanted, who)
        return sent

    async def _check(self, check: Callable[[Snapshot], object]) -> None:
        """A node that follows refuses for good what is wrong when it has caught up, and not before. Raises what `check`
        raises, and Refusal(TEMPORARILY_UNAVAILABLE)."""
        try:
            with self._edge.store.read() as view:
                check(view)
            return
        except Refusal:
            if self._edge.node is None:
                raise
        await self._edge.node.catch_up()
        with self._edge.store.read() as view:
            check(view)

    def _most_at_once(self, who: Principal, transaction: Transaction) -> int:
        """To how many a message can go, whatever was sent before. A limit of none lets one through, to be told why."""
        if not transaction.mail_from:
            return 1  # the null sender is for one recipient
        with self._edge.store.read() as view:
            domain = members.enrolment(view, who.did, _domain(transaction.mail_from))
            member = members.member(view, who.did)
            if domain is None or member is None:
                return 1  # it has been removed since; the end of DATA says so
            return max(1, most_at_once(self._edge.config, member, domain, self._edge.store.now_us()))

    def _refused(self, refusal: Refusal) -> Reply:
        self._edge.metrics.refused.labels(refusal.code).inc()
        return reply_to(refusal)


def _who(visit: Visit[Principal]) -> Principal:
    assert visit.admitted is not None, "the dialogue lets nobody send who is not authenticated"
    return visit.admitted.who


def _dids_of(view: Snapshot, user: str) -> Sequence[str]:
    """Whose password it may be. A name that nobody has proved may be enrolled under several DIDs."""
    if is_valid_did(user):
        return [user]
    try:
        name = parse_domain(user)
    except AddressError:
        return [_NOBODY]
    dids = [domain.did for domain in members.enrolments(view, name)]
    by_handle = handles.holder(view, name)
    if by_handle is not None and by_handle not in dids:
        dids.append(by_handle)
    return dids or [_NOBODY]


def _domain(address: str) -> str:
    return parse_address(address).rpartition("@")[2]


def _digest(did: str, transaction: Transaction, message: Message) -> str:
    """SHA-256, hex, of all that makes a message the same one: each part behind its length. RCPTs as they were offered,
    in any order."""
    digest = hashlib.sha256(_DIGEST_LABEL)
    for part in (did, transaction.mail_from, *sorted(transaction.recipients)):
        octets = part.encode()
        digest.update(len(octets).to_bytes(4, "big") + octets)
    digest.update(message.sha256)
    return digest.hexdigest()


def _idempotency_key(submitted: Submitted, digest: str) -> str | None:
    """SHA-256, hex, of the member's own key, as for HTTP, or of the message; None where two may be alike."""
    if submitted.idempotency_key is not None:
        return hashlib.sha256(submitted.idempotency_key.encode()).hexdigest()
    return digest if submitted.is_one_of_its_kind else None


def _request(
    submitted: Submitted, visit: Visit[Principal], transaction: Transaction, *, normalised: bool
) -> SendRequest:
    recipients: dict[str, tuple[str, Mailbox]] = {}
    for given in transaction.recipients:
        mailbox = parse_mailbox(given)
        recipients.setdefault(mailbox.address, (given, mailbox))
    return SendRequest(
        submitted.sender,
        list(recipients.values()),
        submitted.category,
        Content(
            from_name=submitted.sender.name,
            from_address=submitted.sender.address,
            subject=submitted.subject,
            raw=submitted.raw,
            unsubscribe_url=submitted.unsubscribe_url,
        ),
        BySmtp(
            mail_from_domain=_domain(transaction.mail_from) if transaction.mail_from else None,
            sent_by_domain=None if submitted.sent_by is None else submitted.sent_by.domain,
            normalised=normalised or submitted.normalised,
            # RFC 6531 section 3.7.3: UTF8SMTPSA.
            received_with=f"UTF8{visit.protocol[1:]}" if transaction.smtputf8 else visit.protocol,
        ),
        queues_suppressed=True,
    )
