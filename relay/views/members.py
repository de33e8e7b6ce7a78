"""Members, their domains and their API keys, as they are now.

An *enrolment* is a domain's name under one member. A name that nobody has proved belongs to nobody, so several members
may have it enrolled; `domain` finds the one that has it: who proved it, else who came first. Some things stay with the
*name*, whoever has it and also while nobody does (a name must not get rid of its reputation by being removed
and enrolled again): its pause, since when its rates are counted, and its age.

A member that was removed is no member; that there was one, `was_member` still says.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import msgspec

from relay.codec import Recorded
from relay.events import (
    ConfirmationQueued,
    DomainAdded,
    DomainCheckFailed,
    DomainEvent,
    DomainForwardConfirmed,
    DomainForwardSet,
    DomainKeyCreated,
    DomainKeySwitched,
    DomainPaused,
    DomainRemoved,
    DomainResumed,
    DomainUnverified,
    DomainVerified,
    Evidence,
    KeyEvent,
    KeyIssued,
    KeyRevoked,
    MemberAdded,
    MemberEvent,
    MemberLimitsSet,
    MemberRemoved,
    MemberResumed,
    MemberSuspended,
)
from relay.principals import FULL, Scope
from relay.views.keys import owned
from spool.views import Snapshot, Transaction

#: DID -> its state, also of those that were removed
_MEMBERS = "members"
#: name, a digest of the DID -> the enrolment
_DOMAINS = "domains"
#: DID, a digest of the name -> the name
_DOMAINS_OF = "domains_of"
#: name -> what stays with it
_NAMES = "names"
_KEYS = "keys"
#: The hash of an API key that was not revoked -> whose it is: DID, NUL, key id
_KEY_HASHES = "key_hashes"

#: Of one member. A member may issue and revoke keys as long as it likes, and each of its requests looks at them all.
REVOKED_KEYS_KEPT = 100
#: As many as a domain may have in a day (`relay.decisions.forwarding`).
FORWARD_ASKS_KEPT = 3

REMOVED = "removed"


class MemberState(msgspec.Struct, array_like=True):
    did: str
    #: `active`, `suspended`, or `removed`, which nobody outside of this module gets to see.
    status: str
    added_at: int
    #: Instead of the limits that the age of each of its domains gives.
    hour_limit: int | None = None
    day_limit: int | None = None
    #: Sequence number of the `member.suspended` that holds; 0: none does.
    suspended_seq: int = 0


class NameState(msgspec.Struct, array_like=True):
    """What stays with a name when its enrolment ends. `DomainState` has what these mean."""

    added_at: int
    first_verified_at: int | None = None
    status: str = "active"
    resumed_at: int = 0
    paused_at: int = 0
    stops: str = "all"
    evidence: Evidence | None = None
    pause_reason: str | None = None
    paused_seq: int = 0


class NextKey(msgspec.Struct, array_like=True):
    """A pair of DKIM keys that waits until the DNS has it."""

    selector_stem: str
    rsa_public: str
    ed25519_public: str


class DomainState(msgspec.Struct, array_like=True):
    """An enrolment, with what stays with its name."""

    domain: str
    did: str
    selector_stem: str
    rsa_public: str
    ed25519_public: str
    added_at: int
    #: When the name's DNS records were first seen to be right: its age for warming. None before that.
    first_verified_at: int | None = None
    #: It may send as far as its DNS records are concerned.
    verified: bool = False
    #: Since when the checks of its DNS records have failed; None while they are right.
    failing_since: int | None = None
    #: `active`, `paused`, `paused_bounce_rate` or `paused_complaint_rate`.
    status: str = "active"
    #: Rates are counted from here on.
    resumed_at: int = 0
    #: When its DNS records were last found to be right or wrong. None before they were first right.
    checked_at: int | None = None
    #: Who is told of its bounces; None: nobody.
    forward_to: str | None = None
    #: Which of the checks of its DNS records failed last; none while they are right, and before they first were.
    failed: tuple[str, ...] = ()
    #: Of its pause: since when, what it stops (`all` or `bulk`), and the rate's evidence where it is for a rate.
    paused_at: int = 0
    stops: str = "all"
    evidence: Evidence | None = None
    #: Sequence number of its `domain.added`: what was accepted before is not this enrolment's.
    added_seq: int = 0
    #: When this enrolment was first verified: from then on the name is this member's. None: it is nobody's.
    proved_at: int | None = None
    #: When the name was first enrolled, by whomever.
    name_added_at: int = 0
    #: The operator's own words.
    pause_reason: str | None = None
    #: Whether the owner of `forward_to` wants that. Until then nobody is told.
    forward_confirmed: bool = False
    #: Sequence number of the `domain.forward_set` that named it first: a link of before confirms it no more.
    forward_seq: int = 0
    #: Whether its owner was asked, or would have been but for a reason not to write there.
    forward_asked: bool = False
    #: When its members last wanted mailboxes to be asked, the last FORWARD_ASKS_KEPT times.
    forward_asks: tuple[int, ...] = ()
    next_key: NextKey | None = None
    #: Sequence number of the `domain.paused` that holds; 0: none does.
    paused_seq: int = 0
    #: Since when it has been unverified again, after it was verified; None: it is verified, or never was.
    unverified_at: int | None = None

    @property
    def selector_stems(self) -> list[str]:
        """Of the keys that sign for it, and of those that wait."""
        return (
            [self.selector_stem]
            if self.next_key is None
            else [self.selector_stem, self.next_key.selector_stem]
        )

    def is_stopped(self, *, bulk: bool) -> bool:
        """Whether a pause stops mail of this class."""
        return self.status != "active" and (bulk or self.stops == "all")


class KeyState(msgspec.Struct, array_like=True):
    key_id: str
    #: HMAC-SHA-256 under the pepper, hex.
    key_hash: str
    issued_at: int
    revoked_at: int | None = None
    scope: Scope = FULL
    #: The category of sends by it that name none; None: `bulk`.
    category: str | None = None
    #: The key that made it. Where that one is kept no more, the one that made that; None: none that is kept.
    issued_by: str | None = None


_member = msgspec.msgpack.Decoder(MemberState)
_domain = msgspec.msgpack.Decoder(DomainState)
_name = msgspec.msgpack.Decoder(NameState)
_key = msgspec.msgpack.Decoder(KeyState)
_encode = msgspec.msgpack.Encoder().encode


class MembersProjector:
    name = "members"
    version = 11
    tables = (_MEMBERS, _DOMAINS, _DOMAINS_OF, _NAMES, _KEYS, _KEY_HASHES)
    minds = (MemberEvent, DomainEvent, KeyEvent, ConfirmationQueued)

    def apply(self, tx: Transaction, recorded: Recorded) -> None:
        event, time = recorded.event, recorded.time_us
        match event:
            case MemberAdded():
                state = MemberState(event.did, "active", time)
                tx.put(_MEMBERS, event.did.encode(), _encode(state))
            case DomainAdded():
                self._domain_added(tx, recorded.seq, time, event)
            case DomainRemoved():
                tx.delete(_DOMAINS, _enrolled(event.domain, event.did))
                tx.delete(_DOMAINS_OF, _owned_domain(event.did, event.domain))
            case MemberEvent():
                self._member_changed(tx, recorded.seq, event)
            case DomainPaused() | DomainResumed():
                self._name_changed(tx, recorded, event)
            case DomainEvent():
                self._domain_changed(tx, recorded, event)
            case ConfirmationQueued():
                self._domain_asked(tx, event)
            case KeyIssued():
                key = KeyState(
                    event.key_id,
                    event.key_hash,
                    time,
                    scope=event.scope,
                    category=event.category,
                    issued_by=event.issued_by,
                )
                where = owned(event.did) + event.key_id.encode()
                tx.put(_KEYS, where, _encode(key))
                tx.put(_KEY_HASHES, key.key_hash.encode(), where)
            case KeyRevoked():
                where = owned(event.did) + event.key_id.encode()
                value = tx.get(_KEYS, where)
                assert value is not None, f"a key was revoked that was never issued: {event.key_id}"
                key = _key.decode(value)
                key.revoked_at = time
                tx.put(_KEYS, where, _encode(key))
                if tx.get(_KEY_HASHES, key.key_hash.encode()) == where:
                    tx.delete(_KEY_HASHES, key.key_hash.encode())
                _forget_the_oldest(tx, event.did)
            case _:
                pass

    def _domain_added(self, tx: Transaction, seq: int, time: int, event: DomainAdded) -> None:
        state = DomainState(
            event.domain,
            event.did,
            event.selector_stem,
            event.rsa_public,
            event.ed25519_public,
            time,
            added_seq=seq,
        )
        self._put_domain(tx, state)
        tx.put(_DOMAINS_OF, _owned_domain(event.did, event.domain), event.domain.encode())
        if tx.get(_NAMES, event.domain.encode()) is None:
            tx.put(_NAMES, event.domain.encode(), _encode(NameState(time)))

    def _put_domain(self, tx: Transaction, state: DomainState) -> None:
        tx.put(_DOMAINS, _enrolled(state.domain, state.did), _encode(state))

    def _name_changed(self, tx: Transaction, recorded: Recorded, event: DomainPaused | DomainResumed) -> None:
        time = recorded.time_us
        name = _name_state(tx, event.domain)
        assert name is not None, f"{event.TYPE} for {event.domain}, which was never added"
        if isinstance(event, DomainPaused):
            name.status, name.stops, name.evidence = event.status, event.stops, event.evidence
            name.paused_at, name.pause_reason, name.paused_seq = time, event.reason, recorded.seq
        else:
            name.status, name.stops, name.evidence = "active", "all", None
            name.resumed_at, name.pause_reason, name.paused_seq = time, None, 0
        tx.put(_NAMES, event.domain.encode(), _encode(name))

    def _member_changed(self, tx: Transaction, seq: int, event: MemberEvent) -> None:
        state = member(tx, event.did)
        assert state is not None, f"{event.TYPE} for {event.did}, which was never added"
        match event:
            case MemberSuspended():
                state.status = "suspended"
                state.suspended_seq = seq
            case MemberResumed():
                state.status = "active"
                state.suspended_seq = 0
            case MemberLimitsSet():
                state.hour_limit, state.day_limit = event.hour, event.day
            case MemberRemoved():
                state.status = REMOVED
            case _:
                pass  # it is part of the member's story, and changes nothing
        tx.put(_MEMBERS, event.did.encode(), _encode(state))

    def _domain_asked(self, tx: Transaction, event: ConfirmationQueued) -> None:
        for _, value in list(tx.scan_prefix(_DOMAINS, _named(event.domain))):
            state = _domain.decode(value)
            if state.forward_to is not None:
                state.forward_asked = True
                self._put_domain(tx, state)

    def _domain_changed(self, tx: Transaction, recorded: Recorded, event: DomainEvent) -> None:
        time = recorded.time_us
        value = tx.get(_DOMAINS, _enrolled(event.domain, event.did))
        assert value is not None, f"{event.TYPE} for {event.domain}, which {event.did} has not enrolled"
        state = _domain.decode(value)
        if isinstance(event, DomainVerified | DomainCheckFailed | DomainUnverified):
            state.checked_at = time
        match event:
            case DomainVerified():
                state.verified = True
                state.proved_at = state.proved_at or time
                name = _name_state(tx, event.domain)
                assert name is not None
                name.first_verified_at = name.first_verified_at or time
                tx.put(_NAMES, event.domain.encode(), _encode(name))
                state.failing_since = state.unverified_at = None
                state.failed = ()
            case DomainCheckFailed():
                state.failing_since = state.failing_since or time
                state.failed = tuple(event.failed)
            case DomainUnverified():
                state.verified = False
                state.unverified_at = time
                state.failed = tuple(event.failed)
            case DomainKeyCreated():
                state.next_key = NextKey(event.selector_stem, event.rsa_public, event.ed25519_public)
            case DomainKeySwitched():
                key = state.next_key
                assert key is not None, f"{event.domain} switched to a key that was never made"
                state.selector_stem, state.next_key = key.selector_stem, None
                state.rsa_public, state.ed25519_public = key.rsa_public, key.ed25519_public
            case DomainForwardSet():
                _forward_set(state, recorded, event)
            case DomainForwardConfirmed():
                state.forward_confirmed = True
            case _:
                pass  # it is part of the domain's story, and changes nothing
        self._put_domain(tx, state)


def _named(name: str) -> bytes:
    """Prefix of a name's enrolments: a name holds no NUL."""
    return name.encode() + b"\0"


def _enrolled(name: str, did: str) -> bytes:
    """A digest, because a DID and a domain together can be longer than a key may be."""
    return _named(name) + hashlib.sha256(did.encode()).digest()[:16]


def _owned_domain(did: str, name: str) -> bytes:
    return owned(did) + hashlib.sha256(name.encode()).digest()[:16]


def _forward_set(state: DomainState, recorded: Recorded, event: DomainForwardSet) -> None:
    address = None if event.personal is None else event.personal.address
    if address is None or address != state.forward_to:
        state.forward_to, state.forward_seq = address, recorded.seq
        state.forward_confirmed = state.forward_asked = False
    if address is not None and event.key_id is None:
        state.forward_confirmed = True
    if event.asks:
        state.forward_asked = True
        state.forward_asks = (*state.forward_asks, recorded.time_us)[-FORWARD_ASKS_KEPT:]


def member(view: Snapshot, did: str) -> MemberState | None:
    """None also where it was removed."""
    value = view.get(_MEMBERS, did.encode())
    state = None if value is None else _member.decode(value)
    return None if state is None or state.status == REMOVED else state


def was_member(view: Snapshot, did: str) -> bool:
    """Whether it ever was one. Its mail is out there, and so are the links in it."""
    return view.get(_MEMBERS, did.encode()) is not None


def members(view: Snapshot) -> Iterator[MemberState]:
    for _, state in members_after(view, b""):
        if state.status != REMOVED:
            yield state


def members_after(view: Snapshot, after: bytes) -> Iterator[tuple[bytes, MemberState]]:
    """Who ever was one, those who were removed among them, each with its table key; from behind that key on."""
    for key, value in view.scan(_MEMBERS, after + b"\0" if after else b""):
        yield key, _member.decode(value)


def dids(view: Snapshot) -> Iterator[str]:
    """Of all that ever were members: whose mail the log may hold."""
    for key, _ in view.scan(_MEMBERS):
        yield key.decode()


def enrolment(view: Snapshot, did: str, name: str) -> DomainState | None:
    """The domain as this member has it enrolled, proved or not."""
    value = view.get(_DOMAINS, _enrolled(name, did))
    return None if value is None else _with_name(view, value)


def enrolments(view: Snapshot, name: str) -> list[DomainState]:
    """Everybody's of this name, the first that was made first."""
    found = [_with_name(view, value) for _, value in view.scan_prefix(_DOMAINS, _named(name))]
    return sorted(found, key=lambda state: state.added_seq)


def domain(view: Snapshot, name: str) -> DomainState | None:
    """The enrolment that has the name: the member's who proved it, else the first one's; None: nobody enrolled it."""
    return min(
        enrolments(view, name), key=lambda state: (state.proved_at is None, state.added_seq), default=None
    )


def domains(view: Snapshot) -> Iterator[DomainState]:
    """All enrolments, those of one name together."""
    for _, state in by_name(view):
        yield state


def by_name(view: Snapshot, after: bytes = b"") -> Iterator[tuple[bytes, DomainState]]:
    """As `domains`, each with its table key, from behind the key `after` on."""
    for key, value in view.scan(_DOMAINS, after + b"\0" if after else b""):
        yield key, _with_name(view, value)


def names(view: Snapshot) -> Iterator[str]:
    """All names that are enrolled, each once."""
    before = None
    for key, _ in view.scan(_DOMAINS):
        name = key.partition(b"\0")[0].decode()
        if name != before:
            yield name
        before = name


def domains_of(view: Snapshot, did: str) -> list[DomainState]:
    names = sorted(name.decode() for _, name in view.scan_prefix(_DOMAINS_OF, owned(did)))
    return [state for name in names if (state := enrolment(view, did, name)) is not None]


def _name_state(view: Snapshot, name: str) -> NameState | None:
    value = view.get(_NAMES, name.encode())
    return None if value is None else _name.decode(value)


def _with_name(view: Snapshot, value: bytes) -> DomainState:
    state = _domain.decode(value)
    name = _name_state(view, state.domain)
    assert name is not None, f"{state.domain} is enrolled, and its name is not known"
    state.name_added_at, state.first_verified_at = name.added_at, name.first_verified_at
    state.status, state.stops, state.evidence = name.status, name.stops, name.evidence
    state.resumed_at, state.paused_at, state.pause_reason = name.resumed_at, name.paused_at, name.pause_reason
    state.paused_seq = name.paused_seq
    return state


def keys_of(view: Snapshot, did: str) -> list[KeyState]:
    """The member's keys, and of those that were revoked the last REVOKED_KEYS_KEPT."""
    return [_key.decode(value) for _, value in view.scan_prefix(_KEYS, owned(did))]


def key(view: Snapshot, did: str, key_id: str) -> KeyState | None:
    """Only for the id of a key that was issued: what a stranger writes can be longer than a table's key may be."""
    value = view.get(_KEYS, owned(did) + key_id.encode())
    return None if value is None else _key.decode(value)


def key_of_hash(view: Snapshot, key_hash: str) -> tuple[str, KeyState] | None:
    """Whose key this is, and the key; None: there is none with this hash that was not revoked.

    Looking a hash up says nothing of other hashes to who measures the time: it is keyed, so nobody chooses one.
    """
    where = view.get(_KEY_HASHES, key_hash.encode())
    value = None if where is None else view.get(_KEYS, where)
    if where is None or value is None:
        return None
    return where.partition(b"\0")[0].decode(), _key.decode(value)


def _forget_the_oldest(tx: Transaction, did: str) -> None:
    """Of the revoked keys, those that were revoked first. What they made counts as made by what had made them: the way
    from a key to all that came of it has no gap."""
    keys = keys_of(tx, did)
    revoked = sorted((state.revoked_at, state.key_id) for state in keys if state.revoked_at is not None)
    for _, gone in revoked[:-REVOKED_KEYS_KEPT]:
        (state,) = (state for state in keys if state.key_id == gone)
        keys.remove(state)
        tx.delete(_KEYS, owned(did) + gone.encode())
        for child in keys:
            if child.issued_by == gone:
                child.issued_by = state.issued_by
                tx.put(_KEYS, owned(did) + child.key_id.encode(), _encode(child))
