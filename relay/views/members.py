"""Members, their domains and their API keys, as they are now."""

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
    DomainPaused,
    DomainResumed,
    DomainUnverified,
    DomainVerified,
    Evidence,
    KeyIssued,
    KeyRevoked,
    MemberAdded,
    MemberEvent,
    MemberLimitsSet,
    MemberResumed,
    MemberSuspended,
)
from relay.views.keys import owned
from spool.views import Snapshot, Transaction

_MEMBERS = "members"
_DOMAINS = "domains"
_DOMAINS_OF = "domains_of"
_KEYS = "keys"

#: As many as a domain may have in a day (`relay.decisions.forwarding`).
FORWARD_ASKS_KEPT = 3


class MemberState(msgspec.Struct, array_like=True):
    did: str
    #: `active` or `suspended`.
    status: str
    added_at: int
    #: Instead of the limits that the age of each of its domains gives.
    hour_limit: int | None = None
    day_limit: int | None = None


class DomainState(msgspec.Struct, array_like=True):
    domain: str
    did: str
    selector_stem: str
    rsa_public: str
    ed25519_public: str
    added_at: int
    #: When its DNS records were first seen to be right: its age for warming. None before that.
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
    #: Whether the owner of `forward_to` wants that. Until then nobody is told.
    forward_confirmed: bool = False
    #: Sequence number of the `domain.forward_set` that named it first: a link of before confirms it no more.
    forward_seq: int = 0
    #: Whether its owner was asked, or would have been but for a reason not to write there.
    forward_asked: bool = False
    #: When its members last wanted mailboxes to be asked, the last FORWARD_ASKS_KEPT times.
    forward_asks: tuple[int, ...] = ()

    def is_stopped(self, *, bulk: bool) -> bool:
        """Whether a pause stops mail of this class."""
        return self.status != "active" and (bulk or self.stops == "all")


class KeyState(msgspec.Struct, array_like=True):
    key_id: str
    #: HMAC-SHA-256 under the pepper, hex.
    key_hash: str
    issued_at: int
    revoked_at: int | None = None


_member = msgspec.msgpack.Decoder(MemberState)
_domain = msgspec.msgpack.Decoder(DomainState)
_key = msgspec.msgpack.Decoder(KeyState)
_encode = msgspec.msgpack.Encoder().encode


class MembersProjector:
    name = "members"
    version = 5
    tables = (_MEMBERS, _DOMAINS, _DOMAINS_OF, _KEYS)

    def apply(self, tx: Transaction, recorded: Recorded) -> None:
        event, time = recorded.event, recorded.time_us
        match event:
            case MemberAdded():
                state = MemberState(event.did, "active", time)
                tx.put(_MEMBERS, event.did.encode(), _encode(state))
            case DomainAdded():
                domain = DomainState(
                    event.domain,
                    event.did,
                    event.selector_stem,
                    event.rsa_public,
                    event.ed25519_public,
                    time,
                )
                tx.put(_DOMAINS, event.domain.encode(), _encode(domain))
                # A digest, because a DID and a domain together can be longer than a key may be.
                digest = hashlib.sha256(event.domain.encode()).digest()[:16]
                tx.put(_DOMAINS_OF, owned(event.did) + digest, event.domain.encode())
            case MemberEvent():
                self._member_changed(tx, event)
            case DomainEvent():
                self._domain_changed(tx, recorded, event)
            case ConfirmationQueued():
                self._domain_asked(tx, event)
            case KeyIssued():
                key = KeyState(event.key_id, event.key_hash, time)
                tx.put(_KEYS, owned(event.did) + event.key_id.encode(), _encode(key))
            case KeyRevoked():
                where = owned(event.did) + event.key_id.encode()
                value = tx.get(_KEYS, where)
                assert value is not None, f"a key was revoked that was never issued: {event.key_id}"
                key = _key.decode(value)
                key.revoked_at = time
                tx.put(_KEYS, where, _encode(key))
            case _:
                pass

    def _member_changed(self, tx: Transaction, event: MemberEvent) -> None:
        state = member(tx, event.did)
        assert state is not None, f"{event.TYPE} for {event.did}, which was never added"
        match event:
            case MemberSuspended():
                state.status = "suspended"
            case MemberResumed():
                state.status = "active"
            case MemberLimitsSet():
                state.hour_limit, state.day_limit = event.hour, event.day
            case _:
                pass  # it is part of the member's story, and changes nothing
        tx.put(_MEMBERS, event.did.encode(), _encode(state))

    def _domain_asked(self, tx: Transaction, event: ConfirmationQueued) -> None:
        state = domain(tx, event.domain)
        assert state is not None, f"{event.TYPE} for {event.domain}, which was never added"
        state.forward_asked = True
        tx.put(_DOMAINS, event.domain.encode(), _encode(state))

    def _domain_changed(self, tx: Transaction, recorded: Recorded, event: DomainEvent) -> None:
        time = recorded.time_us
        state = domain(tx, event.domain)
        assert state is not None, f"{event.TYPE} for {event.domain}, which was never added"
        if isinstance(event, DomainVerified | DomainCheckFailed | DomainUnverified):
            state.checked_at = time
        match event:
            case DomainVerified():
                state.verified = True
                state.first_verified_at = state.first_verified_at or time
                state.failing_since = None
                state.failed = ()
            case DomainCheckFailed():
                state.failing_since = state.failing_since or time
                state.failed = tuple(event.failed)
            case DomainUnverified():
                state.verified = False
                state.failed = tuple(event.failed)
            case DomainPaused():
                state.status, state.stops, state.evidence = event.status, event.stops, event.evidence
                state.paused_at = time
            case DomainResumed():
                state.status, state.stops, state.evidence = "active", "all", None
                state.resumed_at = time
            case DomainForwardSet():
                _forward_set(state, recorded, event)
            case DomainForwardConfirmed():
                state.forward_confirmed = True
            case _:
                pass  # it is part of the domain's story, and changes nothing
        tx.put(_DOMAINS, event.domain.encode(), _encode(state))


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
    value = view.get(_MEMBERS, did.encode())
    return None if value is None else _member.decode(value)


def members(view: Snapshot) -> Iterator[MemberState]:
    for _, value in view.scan(_MEMBERS):
        yield _member.decode(value)


def domain(view: Snapshot, name: str) -> DomainState | None:
    value = view.get(_DOMAINS, name.encode())
    return None if value is None else _domain.decode(value)


def domains(view: Snapshot) -> Iterator[DomainState]:
    for _, value in view.scan(_DOMAINS):
        yield _domain.decode(value)


def domains_of(view: Snapshot, did: str) -> list[DomainState]:
    names = sorted(name.decode() for _, name in view.scan_prefix(_DOMAINS_OF, owned(did)))
    return [state for name in names if (state := domain(view, name)) is not None]


def keys_of(view: Snapshot, did: str) -> list[KeyState]:
    """All keys that were ever issued to the member, the revoked ones too."""
    return [_key.decode(value) for _, value in view.scan_prefix(_KEYS, owned(did))]
