"""Legal histories of a relay, drawn by hypothesis.

Members, domains, keys, sends, attempts with every outcome and every interruption, reports of what went out, mail that
comes in and is passed on, in any order that the relay could bring about.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st

from relay.events import (
    NOBODY,
    AttemptInterrupted,
    AttemptStarted,
    Content,
    DomainAdded,
    DomainForwardSet,
    DomainPaused,
    DomainRemoved,
    DomainResumed,
    DomainVerified,
    DsnQueued,
    ForwardAddress,
    ForwardQueued,
    IncomingMail,
    KeyIssued,
    KeyRevoked,
    MailReceived,
    MemberAdded,
    MemberHandleCheckFailed,
    MemberHandleLost,
    MemberHandleSet,
    MemberHandleVerified,
    MemberRemoved,
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
    Recipient,
    RecipientSuppressed,
    RecipientUnsuppressed,
    RemoteSide,
    ReportDetails,
    SendAccepted,
    SuppressedRecipient,
    TornTailCut,
)
from tests.world.history_views import SECOND_US, START_US, History

DIDS = ("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa", "did:plc:bbbbbbbbbbbbbbbbbbbbbbbb", "did:web:c.example")
#: Two share a beginning, and one is the other's sub-domain: table keys must not run into each other.
RECIPIENTS = ("a@example.com", "ab@example.com", "a@example.co", "jörg@mail.example.com")
HANDLES = ("mira.example.com", "a.mira.example.com", "mira.example.co")
#: The member's own Message-ID, in what came by HTTP and by SMTP.
OWN_ID: dict[str, Any] = {"text": "t", "headers": [("Message-ID", "<own@d.example>")]}
OWN_ID_IN_RAW: dict[str, Any] = {"raw": b"Subject: s\r\nMessage-ID:\r\n <own@d.example>\r\n\r\nt\r\n"}
repeatable = settings(derandomize=True, deadline=None)
#: Where each example folds more than once.
repeatable_and_few = settings(repeatable, max_examples=40)


class _Draft:
    """A history in the making, and what may come next."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.events: History = []
        #: With a domain, and without.
        self.members: list[str] = []
        self.left: list[str] = []
        self.active_keys: list[tuple[str, str]] = []
        #: Message id -> owner and attempts begun, for what is not final.
        self.resting: dict[int, tuple[str, int]] = {}
        self.under_way: dict[int, tuple[str, int]] = {}
        #: What is resting and may not be tried, and what holds it.
        self.held: dict[int, str] = {}
        #: Members that are suspended and domains that are paused.
        self.stopped: set[str] = set()
        #: Who holds which handle.
        self.handles: dict[str, str] = {}
        #: Message id -> owner, of what was tried: its receiver may have something to say.
        self.tried: dict[int, str] = {}
        #: What has bounced, and what was reported to have, so that no report counts any more.
        self.bounced: set[int] = set()

    def choices(self) -> list[Any]:
        """The steps that are legal now, the interesting ones more often."""
        steps = [self.cut_a_torn_tail, self.receive]
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
            steps += [self.give_up, self.order_hold]
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

    def add_member(self) -> None:
        self.enrol(next(did for did in DIDS if did not in (*self.members, *self.left)))

    def enrol(self, did: str) -> None:
        self.members.append(did)
        self.events += [
            MemberAdded(did=did),
            DomainAdded(
                did=did,
                domain=domain_of(did),
                selector_stem=f"atmos20251124-{len(self.events)}",
                rsa_public="r",
                ed25519_public="e",
            ),
        ]

    def leave(self) -> None:
        """Its mail may come to any end yet, of what was under way, and until it is cancelled."""
        did = self.pick(self.members)
        self.members.remove(did)
        self.left.append(did)
        self.stopped.discard(did)
        self.handles.pop(did, None)
        self.events += [
            DomainRemoved(
                did=did,
                domain=domain_of(did),
                because="member",
                selector_stems=["s"],
                by="root",
                personal=OperatorsReason(why="a@example.com asked"),
            ),
            MemberRemoved(did=did, by="root", personal=OperatorsReason(why="a@example.com asked")),
        ]

    def come_back(self) -> None:
        did = self.pick(self.left)
        self.left.remove(did)
        self.enrol(did)

    def verify(self) -> None:
        did = self.pick(self.members)
        self.events.append(DomainVerified(did=did, domain=domain_of(did)))

    def change_handle(self) -> None:
        """What a member holds is looked at or lost; one that it does not hold it gets, from another if need be."""
        did, handle = self.pick(self.members), self.pick(list(HANDLES))
        if self.handles.get(did) == handle:
            kind = self.pick(["verified", "failed", "lost"])
            if kind == "verified":
                self.events.append(MemberHandleVerified(did=did, handle=handle))
            elif kind == "failed":
                self.events.append(MemberHandleCheckFailed(did=did, handle=handle, failed=["document"]))
            else:
                del self.handles[did]
                self.events.append(MemberHandleLost(did=did, handle=handle, because="operator", by="root"))
            return
        before = next((other for other, held in self.handles.items() if held == handle), None)
        if before is not None:
            del self.handles[before]
            self.events.append(MemberHandleLost(did=before, handle=handle, because="proved"))
        self.handles[did] = handle
        proved = before is not None or self.pick([True, False])
        self.events.append(
            MemberHandleSet(did=did, handle=handle, proved=proved, instead_of=before, by="root")
        )

    def issue_key(self) -> None:
        did = self.pick(self.members)
        key_id = f"{len(self.events):012x}"
        self.active_keys.append((did, key_id))
        self.events.append(KeyIssued(did=did, key_id=key_id, key_hash="0" * 64))

    def revoke_key(self) -> None:
        did, key_id = self.pick(self.active_keys)
        self.active_keys.remove((did, key_id))
        self.events.append(KeyRevoked(did=did, key_id=key_id))

    def send(self) -> None:
        did = self.pick(self.members)
        recipients = self.draw(st.lists(st.sampled_from(RECIPIENTS), min_size=1, max_size=3, unique=True))
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
                personal=Content(
                    from_address="x@d.example",
                    subject="s",
                    **self.pick([{"text": "t"}, OWN_ID, OWN_ID_IN_RAW]),
                ),
            )
        )
        for index, address in enumerate(recipients, 1):
            at = self.time()
            self.events.append(
                MessageQueued(
                    did=did,
                    domain=domain_of(did),
                    category="bulk",
                    index=index,
                    next_attempt_at=at,
                    give_up_at=at + 3_600 * SECOND_US,
                    personal=Recipient(given=address, address=address),
                )
            )
            self.resting[len(self.events)] = did, 0

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
        self.events.append(
            RecipientSuppressed(
                did=self.pick(self.members),
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
        did, attempts = self.resting.pop(message_id)
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
            "personal": RemoteSide(text="x"),
        }
        match self.draw(st.sampled_from(["deferred", "sent", "bounced"])):
            case "deferred":
                self.resting[message_id] = did, attempt
                self.events.append(MessageDeferred(**facts, next_attempt_at=self.time()))
            case "sent":
                self.events.append(MessageSent(**facts))
            case _:
                self.events.append(MessageBounced(**facts, reason="rejected"))
                self.tell(did, message_id)
                self.bounced.add(message_id)

    def give_up(self) -> None:
        """Without an attempt: its time passed while the relay was down."""
        message_id = self.pick(sorted(self.resting))
        did, _ = self.resting.pop(message_id)
        self.held.pop(message_id, None)
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
                bounce_class=self.pick(["invalid_recipient", "spam_block", "mailbox_full"])
                if counts
                else None,
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
                personal=Recipient(given=address, address=address),
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
        at = self.time()
        address = self.pick(RECIPIENTS)
        self.events.append(
            DsnQueued(
                did=did,
                domain=domain_of(did),
                about=message_id,
                next_attempt_at=at,
                give_up_at=at + 3_600 * SECOND_US,
                operator_domain="relay.example",
                operator_stem="s",
                message_id_entropy="e",
                personal=Recipient(given=address, address=address),
            )
        )
        self.resting[len(self.events)] = did, 0

    def forward(self) -> None:
        did = self.pick(self.members)
        address = self.pick((None, *RECIPIENTS))
        personal = None if address is None else ForwardAddress(address=address)
        self.events.append(DomainForwardSet(did=did, domain=domain_of(did), personal=personal))

    def cut_a_torn_tail(self) -> None:
        self.events.append(TornTailCut(segment="s", offset=80, bytes_cut=1, loss_ruled_out=True))

    def pick(self, among: Sequence[Any]) -> Any:
        return self.draw(st.sampled_from(among))

    def time(self) -> int:
        """Few different times, so that several messages are due at the same one."""
        return START_US + self.draw(st.integers(0, 4)) * SECOND_US


def domain_of(did: str) -> str:
    return f"d{DIDS.index(did) + 1}.example" if did else "relay.example"


@st.composite
def histories(draw: st.DrawFn) -> History:
    draft = _Draft(draw)
    draft.add_member()
    for _ in range(draw(st.integers(5, 40))):
        draw(st.sampled_from(draft.choices()))()
    return draft.events
