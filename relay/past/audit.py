"""One message's whole story, proved from the log: what happened to it, why, and whether the recorded hashes hold.

The invariant: **an audit believes the log, and nothing else that it can do without.** The directory's own views are not
looked at. The log is read once, from its first record to its last, every checksum and the chain verified on the way;
what was decided about the send is decided again on the views of that moment, folded by the relay's projectors up to the
record before it; and the message is composed again from its events and compared with the SHA-256 of each attempt.

What the log does not hold is taken from today's directory, and said to be so: the warming tiers (configuration), the
operator's public keys (its key files) and the private keys with which to sign again. Where something of it is missing,
or the payload has been removed (the story says whether by retention or by an order), the audit goes on without, and
says what cannot be known.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from email.parser import BytesHeaderParser
from pathlib import Path
from typing import NamedTuple

from relay.codec import Recorded, decode
from relay.config import Config, ConfigError, load_config
from relay.decisions.limits import age_starts_at, check_limits, current_limits
from relay.domains.records import dkim_name, dkim_record, dkim_value
from relay.events import (
    DomainAdded,
    DomainKeyCreated,
    DomainPaused,
    DomainRemoved,
    DomainResumed,
    DsnQueued,
    Event,
    ForwardQueued,
    KeyIssued,
    MemberLimitsSet,
    MemberResumed,
    MemberSuspended,
    MessageQueued,
    Notice,
    OperatorKeyCreated,
    Outcome,
    OwnNotice,
    PayloadErased,
    PepperRotated,
    RecipientSuppressed,
    SendAccepted,
)
from relay.mail_reading import SIGNATURES_MAX
from relay.message.fields_of import HeaderSectionError, header_of
from relay.message.keys import KeyFileError, KeyRing, load_peppers
from relay.message.outgoing import Composer, Outgoing, PayloadGoneError
from relay.message.signing import verify
from relay.presentation import MessageSummary, message_summary
from relay.refusals import Refusal
from relay.times import DAY_US, HOUR_US
from relay.views import members, messages, peppers, suppressions, warming
from relay.views.members import DomainState, KeyState, MembersProjector, MemberState
from relay.views.messages import MessageState
from relay.views.suppressions import SuppressionsProjector
from relay.views.warming import WarmingProjector
from spool.errors import SequenceNotFoundError
from spool.reader import LogReader
from spool.record import Record
from spool.views import Projector, Snapshot
from spool.views.scratch import open_scratch

#: What a decision about a send looks at.
_DECISION_PROJECTORS: tuple[Projector[Recorded], ...] = (
    MembersProjector(),
    WarmingProjector(),
    SuppressionsProjector(),
)
#: How much is read of what strangers wrote into mail that is passed on.
MESSAGE_ID_CHARACTERS_MAX = 998
SIGNATURE_CHARACTERS_MAX = 4096
#: Whose a signature (RFC 6376 section 3.5) says that it is.
_find_names = re.compile(r"(?:^|;)\s*([ds])\s*=\s*([^;\s]{1,255})\s*(?=;|$)").findall
#: What holds a member's mail, lets it go, or ends it.
_CIRCUMSTANCES = (DomainPaused, DomainResumed, DomainRemoved, MemberSuspended, MemberResumed)


class Told(NamedTuple):
    """An event of the story, and the record that holds it."""

    record: Record
    recorded: Recorded

    @property
    def event(self) -> Event:
        return self.recorded.event


class Window(NamedTuple):
    """A limit, and how many recipients counted in its window right before the send and right after it."""

    limit: int
    before: int
    after: int


class LimitsThen(NamedTuple):
    hour: Window
    day: Window
    #: Age of the domain in days where its warming tier decides; None where the member has limits of its own.
    warming_day: int | None
    #: The `member.limits_set` that set them.
    set_by_seq: int | None
    #: What check_limits refuses now and then did not: the configuration has changed.
    refused_now: str | None


class DecisionThen(NamedTuple):
    """What the relay knew when it accepted the send. None: the log does not have it."""

    member: MemberState | None
    domain: DomainState | None
    key: KeyState | None
    key_seq: int | None
    limits: LimitsThen | None
    #: Why the limits are not known.
    limits_unknown: str | None
    #: For what the recipient was on the member's suppression list. None: its address has been removed.
    suppressed_for: list[str] | None


class Composition(NamedTuple):
    """An attempt that sent something, and whether the bytes composed again are those. None: they cannot be."""

    attempt: int
    seq: int
    sha256: str
    match: bool | None


class Signature(NamedTuple):
    """`valid` None: its public key is not known."""

    d: str
    s: str
    valid: bool | None
    #: Where the public key comes from.
    key: str


class Audit(NamedTuple):
    state: MessageState
    summary: MessageSummary
    #: The send and the message's own events, what became of its recipient and its domain meanwhile, in log order.
    story: list[Told]
    #: None for what no member sent: a notice, or mail that is passed on.
    decision: DecisionThen | None
    outgoing: Outgoing | None
    message_id_header: str | None
    #: Why the message cannot be composed again.
    not_composed: str | None
    compositions: list[Composition]
    signatures: list[Signature]
    #: How many records the log has; all were read, and none is damaged.
    records: int

    @property
    def problems(self) -> list[str]:
        """What contradicts the log. What can no longer be known does not."""
        different = [
            f"attempt {one.attempt} sent other bytes than those composed again"
            for one in self.compositions
            if one.match is False
        ]
        invalid = [
            f"the signature d={one.d} s={one.s} is not valid" for one in self.signatures if one.valid is False
        ]
        return different + invalid


def audit(
    directory: Path, reader: LogReader, message_id: int, decode: Callable[[Record], Recorded] = decode
) -> Audit:
    """Audit a message of the log of a data directory.

    Raises SequenceNotFoundError where there is no such message, CorruptionError where the log is damaged,
    UnknownEventError where it holds what this code cannot read.
    """
    queued = decode(reader.get(message_id))
    if not isinstance(queued.event, MessageQueued | Notice):
        raise SequenceNotFoundError(f"sequence {message_id} is {queued.event.TYPE}, and no message")
    found = _read(directory, reader, queued, decode)
    known = {told.recorded.seq: told.recorded for told in found.story}

    def get(seq: int) -> Recorded:
        return known.get(seq) or decode(reader.get(seq))

    state = found.state
    outgoing, not_composed = _compose(directory, state, get, found.pepper_at)
    message_id_header: str | None = None
    signatures: list[Signature] = []
    if outgoing is not None:
        send = get(state.send_seq).event
        if isinstance(send, ForwardQueued):
            message_id_header, signatures = _authors_own(outgoing.message)
        else:
            message_id_header = BytesHeaderParser().parsebytes(outgoing.message)["Message-ID"]
            signatures = _signatures(directory, outgoing, send, found.keys_made)
    compositions = [
        Composition(
            event.attempt,
            told.recorded.seq,
            event.sha256,
            None if outgoing is None else event.sha256 == outgoing.sha256,
        )
        for told in found.story
        # The story of a DSN begins with the outcome of another message.
        if isinstance(event := told.event, Outcome)
        and event.message_id == message_id
        and event.sha256 is not None
    ]
    return Audit(
        state,
        message_summary(state, get),
        found.story,
        found.decision,
        outgoing,
        message_id_header,
        not_composed,
        compositions,
        signatures,
        found.records,
    )


# ------------------------------------------------------------------------------------------------ reading the log


class _OnePass:
    """What one pass over the log has found of a message."""

    def __init__(self, directory: Path, queued: Recorded) -> None:
        self._directory = directory
        self._queued = queued
        message = queued.event
        assert isinstance(message, MessageQueued | Notice)
        self._message = message
        #: The send; of a DSN the bounce or report that it tells of; of mail that is passed on, that it came in.
        self.begin = queued.seq - (
            message.index
            if isinstance(message, MessageQueued)
            else int(isinstance(message, DsnQueued | ForwardQueued))
        )
        self.state = messages.begun(queued)
        self.story: list[Told] = []
        self.decision: DecisionThen | None = None
        self.records = 0
        #: All before the send that made keys which may have signed it.
        self.keys_made: list[Recorded] = []
        #: Sequence number of each `pepper.rotated` before the send -> the number.
        self._peppers: dict[int, int] = {}
        self._limits_seq: int | None = None
        #: Key id -> its `key.issued`.
        self._key_seqs: dict[str, int] = {}

    def pepper_at(self, message_id: int) -> int:
        """The number of the pepper that held when that message, which is none later, was accepted."""
        return next(
            (self._peppers[seq] for seq in reversed(self._peppers) if seq < message_id), peppers.FIRST
        )

    def look_before(self, recorded: Recorded) -> None:
        """At an event before the send."""
        match recorded.event:
            case DomainAdded(did=did, domain=domain) | DomainKeyCreated(did=did, domain=domain):
                if (did, domain) == (self._message.did, self._message.domain):
                    self.keys_made.append(recorded)
            case OperatorKeyCreated():
                self.keys_made.append(recorded)
            case PepperRotated():
                self._peppers[recorded.seq] = recorded.event.number
            case KeyIssued(did=did, key_id=key_id) if did == self._message.did:
                self._key_seqs[key_id] = recorded.seq
            case MemberLimitsSet(did=did) if did == self._message.did:
                self._limits_seq = recorded.seq
            case _:
                pass

    def decide(self, then: Snapshot, accepted: Recorded) -> None:
        """What was known right before the send."""
        send = accepted.event
        if not isinstance(send, SendAccepted):
            return
        member, domain = members.member(then, send.did), members.enrolment(then, send.did, send.domain)
        limits, unknown = None, None
        if member is None or domain is None:
            unknown = "the log does not have the enrolment"
        else:
            try:
                config = load_config(self._directory)
                limits = _limits(config, then, member, domain, accepted, send, self._limits_seq)
            except ConfigError as error:
                unknown = str(error)
        suppressed_for = None
        if self._message.personal is not None:
            held = suppressions.suppression(then, send.did, self._message.personal.address)
            suppressed_for = [] if held is None else [reason.reason for reason in held.reasons]
        key = next((key for key in members.keys_of(then, send.did) if key.key_id == send.key_id), None)
        key_seq = self._key_seqs.get(send.key_id)
        self.decision = DecisionThen(member, domain, key, key_seq, limits, unknown, suppressed_for)

    def look(self, told: Told) -> None:
        """At the send, or an event after it."""
        seq = told.recorded.seq
        if seq in (self.begin, self._queued.seq):
            self.story.append(told)
        elif seq > self._queued.seq and self._concerns(told.event):
            self.story.append(told)
            if _is_own(told.event, self._queued.seq):
                self.state = messages.after(self.state, told.recorded)

    def _concerns(self, event: Event) -> bool:
        message_id, message = self._queued.seq, self._message
        if _is_own(event, message_id) or (isinstance(event, DsnQueued) and event.about == message_id):
            return True
        if isinstance(event, PayloadErased):
            return message_id in event.message_ids
        # Nothing of the member's stops a notice.
        if (
            self.state.final_at is not None
            or self.state.is_notice
            or getattr(event, "did", None) != message.did
        ):
            return False
        if isinstance(event, RecipientSuppressed):
            suppressed, recipient = event.personal, message.personal
            if suppressed is None or recipient is None:
                return False
            return suppressed.address.lower() == recipient.address.lower()
        return (
            isinstance(event, _CIRCUMSTANCES) and getattr(event, "domain", message.domain) == message.domain
        )


def _is_own(event: Event, message_id: int) -> bool:
    return getattr(event, "message_id", None) == message_id


def _read(
    directory: Path, reader: LogReader, queued: Recorded, decode: Callable[[Record], Recorded]
) -> _OnePass:
    """Read the whole log once. Up to the send it is folded; from there on it is only looked at."""
    reading = _OnePass(directory, queued)
    with open_scratch(_DECISION_PROJECTORS) as tables:
        for record in reader.read(1):
            recorded = decode(record)
            reading.records = record.seq
            if record.seq < reading.begin:
                reading.look_before(recorded)
                tables.fold(recorded)
                continue
            if record.seq == reading.begin:
                reading.decide(tables.view, recorded)
            reading.look(Told(record, recorded))
    return reading


# ------------------------------------------------------------------------------------------------ deciding again


def _limits(
    config: Config,
    then: Snapshot,
    member: MemberState,
    domain: DomainState,
    accepted: Recorded,
    send: SendAccepted,
    limits_seq: int | None,
) -> LimitsThen:
    now = accepted.time_us
    # Around its own time, where its member has named one.
    at = now if send.scheduled_at is None else send.scheduled_at
    limits = current_limits(config, member, domain, at)
    own = member.hour_limit is not None and member.day_limit is not None
    refused = None
    try:
        check_limits(
            then,
            config,
            member,
            domain,
            recipients=send.wanted,
            reserved=0,
            now_us=now,
            at_us=send.scheduled_at,
        )
    except Refusal as refusal:
        refused = refusal.message
    hour = warming.used(then, send.domain, at, HOUR_US)
    day = warming.used(then, send.domain, at, DAY_US)
    return LimitsThen(
        Window(limits.hour, hour, hour + send.wanted),
        Window(limits.day, day, day + send.wanted),
        # A domain that waits for its verification is as young as can be.
        None if own else max(0, at - age_starts_at(config, domain)) // DAY_US,
        limits_seq if own else None,
        refused,
    )


# ------------------------------------------------------------------------------------------------ composing again


def _compose(
    directory: Path,
    state: MessageState,
    get: Callable[[int], Recorded],
    pepper_at: Callable[[int], int],
) -> tuple[Outgoing | None, str | None]:
    """The message, or why it cannot be composed any more."""
    send = get(state.send_seq).event
    assert isinstance(send, SendAccepted | Notice)
    try:
        composer = Composer.of(KeyRing(directory), load_peppers(directory), send.operator_domain, pepper_at)
        return composer.outgoing_of(state, get), None
    except (PayloadGoneError, KeyFileError) as error:
        return None, str(error)


def _authors_own(message: bytes) -> tuple[str | None, list[Signature]]:
    """The Message-ID and the signatures with which mail came in that is passed on: whatever a stranger wrote.

    The keys of the signatures are others', and so is the time at which they held: they are not verified.
    """
    try:
        fields = header_of(message).fields
    except HeaderSectionError:
        return None, []
    named = [field.text[:MESSAGE_ID_CHARACTERS_MAX] for field in fields if field.name == b"message-id"]
    signed = [field.text[:SIGNATURE_CHARACTERS_MAX] for field in fields if field.name == b"dkim-signature"]
    tags = [dict(_find_names(text)) for text in signed[:SIGNATURES_MAX]]
    return next(iter(named), None), [
        Signature(of.get("d", ""), of.get("s", ""), None, "not known") for of in tags
    ]


def _signatures(
    directory: Path, outgoing: Outgoing, send: Event, keys_made: list[Recorded]
) -> list[Signature]:
    """Verify against the keys of then."""
    assert isinstance(send, SendAccepted | OwnNotice)
    #: Name in DNS -> record, and where it comes from.
    keys: dict[str, tuple[str, str]] = {}
    # Those that `init` made for the operator are in no event; its files are what there is.
    for signer in KeyRing(directory).signers(send.operator_domain, send.operator_stem):
        record = dkim_record(signer)
        keys[record.name] = record.value, "today's key file"
    for recorded in keys_made:
        added = recorded.event
        assert isinstance(added, DomainAdded | DomainKeyCreated | OperatorKeyCreated)
        source = f"{added.TYPE}, sequence {recorded.seq}"
        rsa, ed25519 = dkim_value("RSA", added.rsa_public), dkim_value("Ed25519", added.ed25519_public)
        keys[dkim_name(added.domain, added.selector_stem + "r")] = rsa, source
        keys[dkim_name(added.domain, added.selector_stem + "e")] = ed25519, source

    def lookup(name: str) -> str | None:
        return keys[name][0] if name in keys else None

    signatures = []
    for verdict in verify(outgoing.message, lookup):
        name = dkim_name(verdict.d, verdict.s)
        known = name in keys
        signatures.append(
            Signature(
                verdict.d,
                verdict.s,
                verdict.valid if known else None,
                keys[name][1] if known else "not known",
            )
        )
    return signatures
