"""Signing keys that nothing new is signed with: since when, and up to which message something was.

A key of a domain that was removed is *retired*. Mail that was accepted before is composed with it again, byte for byte,
by every retry and every audit; so its files stay until that is over. A send that was under way when the key was retired
may come after it in the log: it moves the end.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from relay.codec import Recorded
from relay.events import DomainRemoved, SendAccepted
from relay.views import messages
from spool.views import Snapshot, Transaction

#: name, selector stem -> the retired key
_RETIRED = "retired_keys"


class RetiredKey(msgspec.Struct, array_like=True):
    domain: str
    selector_stem: str
    #: Whose it was.
    did: str
    retired_at: int
    #: No message behind this one is signed with it.
    until: int
    #: Its enrolment has ended, and not only its use.
    removed: bool


_retired = msgspec.msgpack.Decoder(RetiredKey)
_encode = msgspec.msgpack.Encoder().encode


class SigningKeysProjector:
    name = "signing_keys"
    version = 1
    tables = (_RETIRED,)

    def apply(self, tx: Transaction, recorded: Recorded) -> None:
        event = recorded.event
        match event:
            case SendAccepted() if event.recipients:
                self._used(tx, event.domain, event.selector_stem, recorded.seq + event.recipients)
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


def retired(view: Snapshot) -> Iterator[RetiredKey]:
    """All of them."""
    for _, value in view.scan(_RETIRED):
        yield _retired.decode(value)


def retired_of(view: Snapshot, domain: str) -> list[RetiredKey]:
    return [_retired.decode(value) for _, value in view.scan_prefix(_RETIRED, domain.encode() + b"\0")]


def has_mail_waiting(view: Snapshot, key: RetiredKey) -> bool:
    """Whether something that is signed with it is still to be delivered."""
    return any(
        state.domain == key.domain and not state.is_dsn
        for status in messages.WAITING
        for state in messages.waiting_of(view, key.did, status, until=key.until)
    )


def is_needed(view: Snapshot, key: RetiredKey) -> bool:
    """Whether anything that may be signed with it can be retried or audited: anybody's that is as old, for nothing else
    is counted."""
    first = messages.first_with_personal_data(view)
    return first is not None and first <= key.until
