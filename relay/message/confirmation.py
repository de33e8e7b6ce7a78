"""Asking the owner of a mailbox whether the notifications of a domain may go there (SPEC 4).

Whoever sets a domain's `forward_to` names a mailbox that may be a stranger's. So its owner is asked once, by a mail of
the relay's own, and until the link in it has been used nothing else goes there. The contract of that mail:

* **no word of the member's is in it**, not even the domain: the page behind the link names that. It is the same mail
  for everybody, so that it is of no use to whoever would have the relay write to strangers;
* one goes to an address in 24 hours, whichever member wants it, and none to one that is on any suppression list;
* it is signed by the operator alone, and no machine answers it (`Auto-Submitted`, RFC 3834).

`confirmation_mail` decides whether there is one, as an event. `compose_confirmation` makes the message: a pure function
of that event and the link.
"""

from __future__ import annotations

from typing import Final

from relay.codec import Recorded
from relay.config import Config
from relay.events import NOBODY, Addressee, ConfirmationQueued
from relay.message import COMPOSITION
from relay.message.bodies import text_part
from relay.message.compose import Message
from relay.message.notice import notice_fields
from relay.times import DAY_US
from relay.views import messages, suppressions
from spool.views import Snapshot

SUBJECT: Final = "Please confirm: notices of undeliverable mail"
BETWEEN_MAILS_US: Final = DAY_US
#: Who asked is still there to be asked again: a link that comes later is a riddle.
GIVE_UP_US: Final = DAY_US


def confirmation_mail(
    view: Snapshot,
    domain: str,
    address: str,
    *,
    config: Config,
    operator_stem: str,
    message_id_entropy: str,
    now_us: int,
) -> ConfirmationQueued | None:
    """The mail to the owner of `address`; None: there is a reason not to write there, or not yet."""
    if suppressions.is_on_any_list(view, address) or now_us < mailable_from(view, address):
        return None
    return ConfirmationQueued(
        composition=COMPOSITION,
        did=NOBODY,
        domain=domain,
        next_attempt_at=now_us,
        give_up_at=now_us + GIVE_UP_US,
        operator_domain=config.operator_domain,
        operator_stem=operator_stem,
        message_id_entropy=message_id_entropy,
        link_base=config.public_url,
        personal=Addressee(given=address, address=address),
    )


def mailable_from(view: Snapshot, address: str) -> int:
    """From when on another such mail may go to the address: one in 24 hours, of the whole relay."""
    last = next(messages.messages_of(view, NOBODY, recipient=address), None)
    return 0 if last is None else last.accepted_at + BETWEEN_MAILS_US


def compose_confirmation(confirmation: Recorded, link: str) -> Message:
    """The message of a `confirmation.queued`, which has its payload."""
    event = confirmation.event
    assert isinstance(event, ConfirmationQueued)
    assert event.personal is not None
    text = text_part(
        "plain",
        f"""\
This is the mail delivery system of {event.operator_domain}.

Somebody who sends mail through it wants notices of undeliverable mail to go to
this mailbox. If you want that too, open this page and confirm it there:

  {link}

The page says whose mail it is about. If you do not know of this, do nothing:
then no notices are sent to you.
""",
    )
    headers = notice_fields(confirmation, SUBJECT, auto_submitted="auto-generated")
    return Message((*headers, *text.headers), text.octets)
