"""Mail that came in and was passed on: what is a repeat, and who sent what.

Who sent it is personal: these rows come from payloads, and go when the personal data of its `forward.queued` do. What
is a repeat goes by a digest of all of it, which gives nothing away, and for REPEAT_US.

An envelope sender is recorded as it was said, with the domain's A-labels or with what they stand for (SMTPUTF8): both
are one sender here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from itertools import islice
from typing import Final

from relay.addresses import with_u_labels
from relay.characters import UNICODE_VERSION, comparable
from relay.codec import Recorded
from relay.events import MailReceived, PayloadErased
from relay.times import DAY_US
from relay.views.keys import owned, read_u64, two_u64, u64
from spool.views import Snapshot, Transaction

#: As long as a mail server tries again (RFC 5321 section 4.5.4.1).
REPEAT_US: Final = 5 * DAY_US
#: Of those that are too old, so many go with each that comes: more than come.
_FORGOTTEN_AT_ONCE: Final = 16

#: digest -> time, sequence number of the `mail.received`
_BY_DIGEST: Final = "received"
#: (time, sequence number) -> digest
_BY_TIME: Final = "received_by_time"
#: member, digest of the sender, message id of the `forward.queued` -> nothing
_BY_SENDER: Final = "received_by_sender"
#: message id of the `forward.queued` -> the key of its sender's rows
_SENDER_OF: Final = "received_sender_of"


class ReceivedProjector:
    name = "received"
    #: Which characters fold to which is Unicode's, and grows with Python.
    version = 200 + UNICODE_VERSION
    tables = (_BY_DIGEST, _BY_TIME, _BY_SENDER, _SENDER_OF)
    minds = (MailReceived, PayloadErased)

    def apply(self, tx: Transaction, recorded: Recorded) -> None:
        event = recorded.event
        if isinstance(event, MailReceived):
            self._received(tx, recorded, event)
        elif isinstance(event, PayloadErased):
            for message_id in event.message_ids:
                prefix = tx.get(_SENDER_OF, u64(message_id))
                if prefix is not None:
                    tx.delete(_SENDER_OF, u64(message_id))
                    tx.delete(_BY_SENDER, prefix + u64(message_id))

    def _received(self, tx: Transaction, recorded: Recorded, event: MailReceived) -> None:
        digest, when = bytes.fromhex(event.digest), two_u64(recorded.time_us, recorded.seq)
        before = tx.get(_BY_DIGEST, digest)
        if before is not None:
            tx.delete(_BY_TIME, before)
        tx.put(_BY_DIGEST, digest, when)
        tx.put(_BY_TIME, when, digest)
        oldest = u64(max(0, recorded.time_us - REPEAT_US) + 1)
        for key, known in list(islice(tx.scan(_BY_TIME, b"", oldest), _FORGOTTEN_AT_ONCE)):
            tx.delete(_BY_TIME, key)
            tx.delete(_BY_DIGEST, known)
        if event.personal is not None and event.personal.mail_from:
            # The record behind it, in its batch.
            forward, prefix = u64(recorded.seq + 1), _sent_by(event.did, event.personal.mail_from)
            tx.put(_BY_SENDER, prefix + forward, b"")
            tx.put(_SENDER_OF, forward, prefix)


def _sent_by(did: str, address: str) -> bytes:
    sender = comparable(with_u_labels(address))
    return owned(did) + hashlib.sha256(sender.encode("utf-8", "replace")).digest()[:16]


def is_repeat(view: Snapshot, digest: str, now_us: int) -> bool:
    """Whether this mail in this envelope (hex, as in `mail.received`) came within REPEAT_US."""
    before = view.get(_BY_DIGEST, bytes.fromhex(digest))
    return before is not None and read_u64(before) > now_us - REPEAT_US


def passed_on_from(view: Snapshot, did: str, address: str, *, after: int = 0) -> Iterator[int]:
    """Message ids of what this sender's mail was passed on as, to this member (NOBODY: to the operator), in their
    order, behind one of them."""
    prefix = _sent_by(did, address)
    for key, _ in view.scan(_BY_SENDER, prefix + u64(after + 1), prefix + b"\xff" * 9):
        yield read_u64(key, len(prefix))
