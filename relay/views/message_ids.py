"""Message-IDs that members gave their mail themselves: whether a mail that comes in names one (`References`).

Those of the relay's making need no row: `relay.decisions.inbound_mail` proves them from the send's own record. What a
member wrote is personal, so a row comes from the payload of `send.accepted` and goes with it: with the last message of
the send, as the payload does (`relay.views.retention.payloads_of`).
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

from relay.codec import Recorded
from relay.events import Content, PayloadErased, SendAccepted
from relay.views import messages
from relay.views.keys import u64
from spool.views import Snapshot, Transaction

#: digest of member, domain and Message-ID; the send -> nothing
_SENDS_OF: Final = "message_ids"
#: the send -> that digest
_ID_OF: Final = "message_id_of"

#: `raw` was taken apart when it came in: its header is lines of CRLF, and has one such field at most.
_find_field: Final = re.compile(rb"(?:\A|\r\n)message-id:((?:[^\r\n]|\r\n[ \t])*)", re.IGNORECASE).search
_HEADER_OCTETS_MAX: Final = 64 * 1024


class MessageIdsProjector:
    name = "message_ids"
    version = 1
    tables = (_SENDS_OF, _ID_OF)
    minds = (SendAccepted, PayloadErased)

    def apply(self, tx: Transaction, recorded: Recorded) -> None:
        event = recorded.event
        match event:
            case SendAccepted() if event.recipients and event.personal is not None:
                own = _own_message_id(event.personal)
                if own is not None:
                    digest = _digest(event.did, event.domain, own)
                    tx.put(_SENDS_OF, digest + u64(recorded.seq), b"")
                    tx.put(_ID_OF, u64(recorded.seq), digest)
            case PayloadErased():
                for message_id in event.message_ids:
                    self._erased(tx, message_id)
            case _:
                pass

    def _erased(self, tx: Transaction, message_id: int) -> None:
        state = messages.message(tx, message_id)
        assert state is not None
        digest = tx.get(_ID_OF, u64(state.send_seq))
        if digest is None or any(
            messages.has_personal_data(tx, other.message_id)
            for other in messages.messages_of_send(tx, state.send_seq)
        ):
            return
        tx.delete(_SENDS_OF, digest + u64(state.send_seq))
        tx.delete(_ID_OF, u64(state.send_seq))


def _own_message_id(content: Content) -> str | None:
    if content.raw is None:
        return next((value.strip() for name, value in content.headers if name.lower() == "message-id"), None)
    end = content.raw.find(b"\r\n\r\n", 0, _HEADER_OCTETS_MAX)
    found = _find_field(content.raw, 0, end if end >= 0 else _HEADER_OCTETS_MAX)
    return None if found is None else found[1].decode("utf-8", "replace").strip(" \t\r\n")


def _digest(did: str, domain: str, message_id: str) -> bytes:
    return hashlib.sha256("\0".join((did, domain, message_id)).encode("utf-8", "replace")).digest()[:16]


def is_own(view: Snapshot, did: str, domain: str, message_id: str) -> bool:
    """Whether the member gave a mail of this domain this Message-ID (with its angle brackets), and its content is still
    there."""
    return next(view.scan_prefix(_SENDS_OF, _digest(did, domain, message_id)), None) is not None
