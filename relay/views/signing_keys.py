"""The operator's signing keys, and all that nothing new is signed with: since when, up to which message something was.

A key of a domain that was removed, or that another took the place of, is *retired*. Mail that was accepted before is
composed with it again, byte for byte, by every retry and every audit; so its files stay until that is over. A send that
was under way when the key was retired may come after it in the log: it moves the end.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from relay.codec import Recorded
from relay.events import (
    DomainKeySwitched,
    DomainRemoved,
    DsnQueued,
    OperatorKeyCreated,
    OperatorKeySwitched,
    SendAccepted,
    SigningKeyDeleted,
)
from relay.views import due, messages
from relay.views.members import NextKey
from spool.views import Snapshot, Transaction

#: name, selector stem -> the retired key
_RETIRED = "retired_keys"
#: operator's domain -> the key that signs for it, and the one that waits
_OPERATOR = "operator_key"


class RetiredKey(msgspec.Struct, array_like=True):
    domain: str
    selector_stem: str
    #: Whose it was; "": the operator's.
    did: str
    retired_at: int
    #: No message behind this one is signed with it.
    until: int
    #: Its enrolment has ended, and not only its use.
    removed: bool


class OperatorKey(msgspec.Struct, array_like=True):
    selector_stem: str
    next_key: NextKey | None = None


_operator = msgspec.msgpack.Decoder(OperatorKey)
_retired = msgspec.msgpack.Decoder(RetiredKey)
_encode = msgspec.msgpack.Encoder().encode


class SigningKeysProjector:
    name = "signing_keys"
    version = 1
    tables = (_RETIRED, _OPERATOR)
    minds = (
        SendAccepted,
        DsnQueued,
        DomainKeySwitched,
        OperatorKeyCreated,
        OperatorKeySwitched,
        SigningKeyDeleted,
        DomainRemoved,
    )

    def apply(self, tx: Transaction, recorded: Recorded) -> None:
        event = recorded.event
        match event:
            case SendAccepted() if event.recipients:
                until = recorded.seq + event.recipients
                self._used(tx, event.domain, event.selector_stem, until)
                self._used(tx, event.operator_domain, event.operator_stem, until)
            case DsnQueued():
                self._used(tx, event.operator_domain, event.operator_stem, recorded.seq)
            case DomainKeySwitched():
                self._retire(tx, recorded, event.domain, event.retired_stem, event.did, removed=False)
            case OperatorKeyCreated():
                own = operator_key(tx, event.domain)
                assert own is not None, "an operator's key was made before the one in use was named"
                own.next_key = NextKey(event.selector_stem, event.rsa_public, event.ed25519_public)
                tx.put(_OPERATOR, event.domain.encode(), _encode(own))
            case OperatorKeySwitched():
                tx.put(_OPERATOR, event.domain.encode(), _encode(OperatorKey(event.selector_stem)))
                if event.retired_stem is not None:
                    self._retire(tx, recorded, event.domain, event.retired_stem, "", removed=False)
            case SigningKeyDeleted():
                tx.delete(_RETIRED, _key(event.domain, event.selector_stem))
            case DomainRemoved():
                for stem in event.selector_stems:
                    self._retire(tx, recorded, event.domain, stem, event.did, removed=True)
            case _:
                pass

    def _retire(
        self, tx: Transaction, recorded: Recorded, domain: str, stem: str, did: str, *, removed: bool
    ) -> None:
        key = RetiredKey(domain, stem, did, recorded.time_us, recorded.seq, removed)
        tx.put(_RETIRED, _key(domain, stem), _encode(key))

    def _used(self, tx: Transaction, domain: str, stem: str, until: int) -> None:
        """By a send that was under way."""
        value = tx.get(_RETIRED, _key(domain, stem))
        if value is not None:
            key = _retired.decode(value)
            key.until = until
            tx.put(_RETIRED, _key(domain, stem), _encode(key))


def _key(domain: str, stem: str) -> bytes:
    return domain.encode() + b"\0" + stem.encode()


def operator_key(view: Snapshot, domain: str) -> OperatorKey | None:
    """None: no event has named it, and of its files the newest sign."""
    value = view.get(_OPERATOR, domain.encode())
    return None if value is None else _operator.decode(value)


def retired(view: Snapshot) -> Iterator[RetiredKey]:
    """All of them."""
    for _, value in view.scan(_RETIRED):
        yield _retired.decode(value)


def retired_of(view: Snapshot, domain: str) -> list[RetiredKey]:
    return [_retired.decode(value) for _, value in view.scan_prefix(_RETIRED, domain.encode() + b"\0")]


def has_mail_waiting(view: Snapshot, key: RetiredKey) -> bool:
    """Whether something that is signed with it is still to be delivered. The operator's sign everybody's."""
    if not key.did:
        first = next(due.waiting_after(view, 0), None)
        return first is not None and first.message_id <= key.until
    return any(
        state.domain == key.domain and not state.is_notice
        for status in messages.WAITING
        for state in messages.waiting_of(view, key.did, status, until=key.until)
    )


def is_needed(view: Snapshot, key: RetiredKey) -> bool:
    """Whether anything that may be signed with it can be retried or audited: anybody's that is as old, for nothing else
    is counted."""
    first = messages.first_with_personal_data(view)
    return first is not None and first <= key.until
