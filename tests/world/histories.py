"""Legal histories of a relay, drawn by hypothesis: members, domains, keys and webhooks (`tests.world.drafts`), sends,
also conversations and those with a time of their own, attempts with every outcome and every interruption, reports of
what went out, mail that comes in and is passed on, in any order that the relay could bring about.
"""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st

from relay.events import (
    NOBODY,
    Addressee,
    AlarmQueued,
    Attachment,
    AttemptInterrupted,
    AttemptStarted,
    Content,
    DomainForwardSet,
    DomainPaused,
    DomainResumed,
    DsnQueued,
    ForwardAddress,
    ForwardQueued,
    IncomingMail,
    MailReceived,
    MemberResumed,
    MemberSuspended,
    MessageBounced,
    MessageBounceReported,
    MessageComplained,
    MessageDeferred,
    MessageHeld,
    MessageQueued,
    MessageReleased,
    MessageRescheduled,
    MessageSent,
    Notice,
    OperatorsReason,
    OwnNotice,
    Recipient,
    RecipientSuppressed,
    RecipientUnsuppressed,
    RemoteSide,
    ReportDetails,
    SendAccepted,
    SourceDelisted,
    SourceListed,
    SuppressedRecipient,
    TornTailCut,
    WebhookNoticeQueued,
)
from tests.world.drafts import DIDS, MembersDraft, domain_of
from tests.world.history_views import SECOND_US, History

#: Two share a beginning, one is another's sub-domain: keys must not run into each other.
RECIPIENTS = ("a@example.com", "ab@example.com", "a@example.co", "jörg@mail.example.com")
CLASSES = ("invalid_recipient", "spam_block", "mailbox_full")
#: Where they are taken in.
HOSTS = ("mx1.example.com", "mx2.example.com")
#: The member's own Message-ID, in what came by HTTP and by SMTP.
OWN_ID: dict[str, Any] = {"text": "t", "headers": [("Message-ID", "<own@d.example>")]}
OWN_ID_IN_RAW: dict[str, Any] = {"raw": b"Subject: s\r\nMessage-ID:\r\n <own@d.example>\r\n\r\nt\r\n"}
#: What a conversation shows.
SHOWN: dict[str, Any] = {
    "to_shown": [("", "a@example.com")],
    "cc": [("C", "c@example.com")],
    "attachments": [Attachment(filename="a.txt", content_type="text/plain", content=b"a@example.com")],
}
repeatable = settings(derandomize=True)
#: Where each example folds more than once.
repeatable_and_few = settings(repeatable, max_examples=40)


class _Draft(MembersDraft):
    """A history in the making, and what may come next."""

    def __init__(self, draw: st.DrawFn) -> None:
        super().__init__(draw)
        #: Message id -> owner and attempts begun, for what is not final.
        self.resting: dict[int, tuple[str, int]] = {}
        self.under_way: dict[int, tuple[str, int]] = {}
        #: What is resting and may not be tried, and what holds it.
        self.held: dict[int, str] = {}
        #: Of what rests: nobody has tried it, and its time was chosen by the member.
        self.scheduled: set[int] = set()
        #: Message id -> owner, of what was tried: its receiver may have something to say.
        self.tried: dict[int, str] = {}
        #: What has bounced, and what was reported to have, so that no report counts any more.
        self.bounced: set[int] = set()

    def choices(self) -> list[Any]:
        """The steps that are legal now, the interesting ones more often."""
        steps = [self.cut_a_torn_tail, self.receive, self.alarm, self.list_source, *self.webhook_steps()]
        if self.tried:
            steps += [self.report, self.report, self.complain]
        if len(self.members) + len(self.left) < len(DIDS):
            steps += [self.add_member]
        if self.left:
            steps += [self.come_back]
        if self.members:
            steps += [self.issue_key, self.send, self.send, self.stop, self.suppress, self.unsuppress]
            steps += [self.forward, self.verify, self.leave, self.change_handle, self.change_handle]
        if self.active_keys:
            steps += [self.revoke_key]
        if self.resting:
            steps += [self.give_up, self.order_hold, self.cancel]
        if self.scheduled:
            steps += [self.move, self.move, self.move]
        if self.triable():
            steps += [self.start, self.start, self.start, self.reschedule]
        if "operator" in self.held.values():
            steps += [self.release, self.release]
        if self.holdable():
            steps += [self.hold, self.hold, self.hold, self.hold]
        if self.resumable():
            steps += [self.resume, self.resume]
        if self.under_way:
            steps += [self.end, self.end, self.end, self.interrupt]
        return steps

    def send(self) -> None:
        """To each its own mail, or to all of them one conversation; at once, or at a time that the member chooses."""
        did = self.pick(self.members)
        recipients = self.draw(st.lists(st.sampled_from(RECIPIENTS), min_size=1, max_size=3, unique=True))
        scheduled_at = self.pick([None, self.time()])
        tag, conversation = self.pick([None, "spring.2026"]), self.pick([False, True])
        metadata = self.pick([{}, {"order": "a@example.com bought tea"}])
        content: dict[str, Any] = dict(self.pick([{"text": "t"}, OWN_ID, OWN_ID_IN_RAW]))
        if conversation and "raw" not in content:
            content |= SHOWN
        self.events.append(
            SendAccepted(
                did=did,
                domain=domain_of(did),
                category="bulk",
                recipients=len(recipients),
                key_id="k",
                selector_stem="s",
                operator_domain="relay.example",
                operator_stem="s",
                message_id_entropy="e",
                conversation=conversation,
                tag=tag,
                scheduled_at=scheduled_at,
                personal=Content(from_address="x@d.example", subject="s", **content),
            )
        )
        for index, address in enumerate(recipients, 1):
            at = scheduled_at or self.time()
            self.events.append(
                MessageQueued(
                    did=did,
                    domain=domain_of(did),
                    category="bulk",
                    index=index,
                    next_attempt_at=at,
                    give_up_at=at + 3_600 * SECOND_US,
                    shown=not conversation or index == 1,
                    scheduled=scheduled_at is not None,
                    tag=tag,
                    personal=Recipient(given=address, address=address, metadata=metadata),
                )
            )
            self.resting[len(self.events)] = did, 0
            if scheduled_at is not None:
                self.scheduled.add(len(self.events))

    def move(self) -> None:
        """By the member, what was not tried yet; whoever holds it goes on doing so."""
        message_id, at = self.pick(sorted(self.scheduled)), self.time()
        self.events.append(
            MessageRescheduled(
                did=self.resting[message_id][0],
                message_id=message_id,
                next_attempt_at=at,
                give_up_at=at + 3_600 * SECOND_US,
                key_id="k",
            )
        )

    def cancel(self) -> None:
        """By the member, what was not tried yet, or by the operator; nobody is told of it."""
        message_id = self.pick(sorted(self.resting))
        did, attempts = self.resting[message_id]
        by = {"by": "root"} if attempts or not did else self.pick([{"by": "root"}, {"key_id": "k"}])
        self.forget(message_id)
        self.bounced.add(message_id)
        self.events.append(
            MessageBounced(did=did, message_id=message_id, attempt=0, reason="cancelled", **by)
        )

    def forget(self, message_id: int) -> None:
        """It rests no more."""
        del self.resting[message_id]
        self.held.pop(message_id, None)
        self.scheduled.discard(message_id)

    def triable(self) -> list[int]:
        return sorted(self.resting.keys() - self.held.keys())

    def stop(self) -> None:
        did = self.pick(self.members)
        if self.draw(st.booleans()):
            self.stopped.add(did)
            self.events.append(MemberSuspended(did=did))
        else:
            self.stopped.add(domain_of(did))
            self.events.append(DomainPaused(did=did, domain=domain_of(did), status="paused"))

    def resume(self) -> None:
        name = self.pick(self.resumable())
        self.stopped.remove(name)
        self.held = {message_id: holder for message_id, holder in self.held.items() if holder != name}
        if name in DIDS:
            self.events.append(MemberResumed(did=name))
        else:
            did = next(did for did in DIDS if domain_of(did) == name)
            self.events.append(DomainResumed(did=did, domain=name))

    def resumable(self) -> list[str]:
        """A name that nobody has cannot be resumed."""
        return sorted(self.stopped - {domain_of(did) for did in self.left})

    def holdable(self) -> list[tuple[int, str, str]]:
        """What came up for an attempt and must not be made: message id, why, and what holds it then."""
        return [
            (message_id, because, holder)
            for message_id in self.triable()
            for because, holder in (
                ("member", self.resting[message_id][0]),
                ("domain", domain_of(self.resting[message_id][0])),
            )
            if holder in self.stopped
        ]

    def hold(self) -> None:
        message_id, because, holder = self.pick(self.holdable())
        self.held[message_id] = holder
        self.events.append(
            MessageHeld(did=self.resting[message_id][0], message_id=message_id, because=because)
        )

    def order_hold(self) -> None:
        """By the operator: whatever rests, also what somebody else holds."""
        message_id = self.pick(sorted(self.resting))
        self.held[message_id] = "operator"
        self.events.append(
            MessageHeld(
                did=self.resting[message_id][0],
                message_id=message_id,
                because="operator",
                by="root",
                personal=OperatorsReason(why="x"),
            )
        )

    def release(self) -> None:
        message_id = self.pick(sorted(key for key, holder in self.held.items() if holder == "operator"))
        del self.held[message_id]
        self.events.append(MessageReleased(did=self.resting[message_id][0], message_id=message_id, by="root"))

    def reschedule(self) -> None:
        message_id = self.pick(self.triable())
        self.events.append(
            MessageRescheduled(
                did=self.resting[message_id][0],
                message_id=message_id,
                next_attempt_at=self.time(),
                by="root",
                personal=OperatorsReason(why="x"),
            )
        )

    def suppress(self) -> None:
        did = self.pick(self.members)
        about = [message_id for message_id, owner in self.tried.items() if owner == did]
        self.events.append(
            RecipientSuppressed(
                did=did,
                message_id=self.pick([None, *about]),
                reason=self.pick(["unsubscribe", "complaint", "manual"]),
                personal=SuppressedRecipient(address=self.pick(RECIPIENTS)),
            )
        )

    def unsuppress(self) -> None:
        self.events.append(
            RecipientUnsuppressed(
                did=self.pick(self.members), personal=SuppressedRecipient(address=self.pick(RECIPIENTS))
            )
        )

    def start(self) -> None:
        message_id = self.pick(self.triable())
        did, attempts = self.resting[message_id]
        self.forget(message_id)
        self.under_way[message_id] = did, attempts + 1
        self.tried[message_id] = did
        self.events.append(
            AttemptStarted(did=did, message_id=message_id, attempt=attempts + 1, next_attempt_at=self.time())
        )

    def interrupt(self) -> None:
        message_id = self.pick(sorted(self.under_way))
        did, attempt = self.resting[message_id] = self.under_way.pop(message_id)
        self.events.append(
            AttemptInterrupted(did=did, message_id=message_id, attempt=attempt, next_attempt_at=self.time())
        )

    def end(self) -> None:
        message_id = self.pick(sorted(self.under_way))
        did, attempt = self.under_way.pop(message_id)
        facts: dict[str, Any] = {
            "did": did,
            "message_id": message_id,
            "attempt": attempt,
            "code": 250,
            "provider": self.pick([None, "google", "other"]),
            "personal": RemoteSide(mx=self.pick([None, *HOSTS]), text="x"),
        }
        failure = {"bounce_class": self.pick([None, "invalid_recipient", "mailbox_full"])}
        match self.draw(st.sampled_from(["deferred", "sent", "bounced"])):
            case "deferred":
                self.resting[message_id] = did, attempt
                self.events.append(MessageDeferred(**facts, **failure, next_attempt_at=self.time()))
            case "sent":
                self.events.append(MessageSent(**facts, tls_version=self.pick([None, "TLSv1.3"])))
            case _:
                self.events.append(MessageBounced(**facts, **failure, reason="rejected"))
                self.tell(did, message_id)
                self.bounced.add(message_id)

    def give_up(self) -> None:
        """Without an attempt: its time passed while the relay was down."""
        message_id = self.pick(sorted(self.resting))
        did, _ = self.resting[message_id]
        self.forget(message_id)
        self.events.append(MessageBounced(did=did, message_id=message_id, attempt=0, reason="expired"))
        self.tell(did, message_id)
        self.bounced.add(message_id)

    def report(self) -> None:
        """It comes back, perhaps while it is under way still, or long after it bounced."""
        message_id = self.pick(sorted(self.tried))
        is_notice = isinstance(self.events[message_id - 1], Notice)
        counts = not is_notice and message_id not in self.bounced and self.draw(st.booleans())
        self.events.append(
            MessageBounceReported(
                did=self.tried[message_id],
                message_id=message_id,
                kind="dsn" if counts else "unknown",
                action="failed" if counts else None,
                enhanced=self.pick(["5.1.1", "4.4.7"]) if counts else None,
                bounce_class=self.pick(CLASSES) if counts else None,
                is_failure=counts,
                sha256=f"{len(self.events):064x}",
                size=9,
                personal=ReportDetails(diagnostic="no such user a@example.com", raw=b"Subject: x"),
            )
        )
        if counts:
            self.tell(self.tried[message_id], message_id)
            self.bounced.add(message_id)

    def complain(self) -> None:
        message_id = self.pick(sorted(self.tried))
        by_mail: dict[str, Any] = {
            "via": "report",
            "authenticated": self.draw(st.booleans()),
            "sha256": f"{len(self.events):064x}",
            "size": 9,
            "personal": ReportDetails(raw=b"Subject: x"),
        }
        self.events.append(
            MessageComplained(
                did=self.tried[message_id], message_id=message_id, **self.pick([by_mail, by_mail, {}])
            )
        )

    def receive(self) -> None:
        """Mail that is passed on, to a member or the operator, perhaps a repeat that came too late to be known."""
        did = self.pick([NOBODY, *self.members])
        sender, address, at = self.pick(["", *RECIPIENTS]), self.pick(RECIPIENTS), self.time()
        self.events += [
            MailReceived(
                did=did,
                kind="reply" if did else "operator",
                domain=domain_of(did),
                sha256="00" * 32,
                size=9,
                digest=f"{self.draw(st.integers(0, 2)):064x}",
                mail_from_null=not sender,
                received_by="relay.example",
                received_with="ESMTP",
                personal=IncomingMail(mail_from=sender, rcpt_to=["x@d.example"], raw=b"Subject: x"),
            ),
            ForwardQueued(
                did=did,
                domain=domain_of(did),
                next_attempt_at=at,
                give_up_at=at + 3_600 * SECOND_US,
                operator_domain="relay.example",
                personal=Addressee(given=address, address=address),
            ),
        ]
        self.resting[len(self.events)] = did, 0

    def tell(self, did: str, message_id: int) -> None:
        """Perhaps the bounce, or the report of one, that was just written makes a DSN; but of one message only one."""
        if (
            message_id in self.bounced
            or isinstance(self.events[message_id - 1], Notice)
            or not self.draw(st.booleans())
        ):
            return
        self.notify(did, DsnQueued, about=message_id)

    def tell_of_webhook(self, did: str, webhook_id: str) -> None:
        if did and self.draw(st.booleans()):
            said = {"because": "gone", "until_seq": 1, "link_base": "https://relay.example"}
            self.notify(did, WebhookNoticeQueued, webhook_id=webhook_id, **said)

    def alarm(self) -> None:
        did = self.pick((NOBODY, *self.members))
        name, about = self.pick(("domain_paused", "source_listed")), self.pick(("a.example", "192.0.2.25"))
        self.notify(did, AlarmQueued, alarm=name, about=about, says=["It is so."])

    def notify(self, did: str, kind: type[OwnNotice], **of_its_kind: Any) -> None:
        """The relay's own mail, to somebody."""
        at, address = self.time(), self.pick(RECIPIENTS)
        self.events.append(
            kind(
                did=did,
                domain=domain_of(did),
                next_attempt_at=at,
                give_up_at=at + 3_600 * SECOND_US,
                operator_domain="relay.example",
                operator_stem="s",
                message_id_entropy="e",
                personal=Addressee(given=address, address=address),
                **of_its_kind,
            )
        )
        self.resting[len(self.events)] = did, 0

    def list_source(self) -> None:
        source, dnsbl = self.pick(("192.0.2.25", "2001:db8::25")), self.pick(("zen.example", "bl.example"))
        listed = SourceListed(source=source, dnsbl=dnsbl, codes=["127.0.0.2"])
        delisted = SourceDelisted(source=source, dnsbl=dnsbl)
        self.events.append(self.pick((listed, delisted)))

    def forward(self) -> None:
        did = self.pick(self.members)
        address = self.pick((None, *RECIPIENTS))
        personal = None if address is None else ForwardAddress(address=address)
        self.events.append(DomainForwardSet(did=did, domain=domain_of(did), personal=personal))

    def cut_a_torn_tail(self) -> None:
        self.events.append(TornTailCut(segment="s", offset=80, bytes_cut=1, loss_ruled_out=True))


@st.composite
def histories(draw: st.DrawFn) -> History:
    draft = _Draft(draw)
    draft.add_member()
    for _ in range(draw(st.integers(5, 40))):
        draw(st.sampled_from(draft.choices()))()
    return draft.events
