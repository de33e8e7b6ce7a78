"""What a stranger may send to: one recipient's address to where its mail goes, or to the refusal (INBOUND.md). Pure.

The contract. **Nothing but these is taken**, so that nobody relays through us, and nobody learns of an address that
is none:

| recipient | destination |
| --- | --- |
| `bounces+N-mac@`, `forward+S-mac@` the operator's domain, in any case of letters | `AboutMessage` |
| the OPERATORS of the operator's domain, and `Postmaster` without a domain (RFC 5321 section 4.5.1) | `ForOperator` |
| postmaster@ a member's domain | `ForMember`, or where it is passed on to nobody, `ForOperator` |
| any other address at a member's domain of which something is passed on | `ForMember` |

A member's domain is one that somebody has: proved, where names have to be. What is no address in the one form that
addresses have here (`relay.addresses`: no source route, quoted local part or address literal) is nobody's.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from relay.addresses import AddressError, parse_mailbox
from relay.config import Config
from relay.decisions.inbound_mail import forward_address
from relay.message.tokens import BounceAddresses
from relay.reception.refused import bad_recipient
from relay.reception.replies import Reply
from relay.views import members, messages
from spool.views import Snapshot

POSTMASTER: Final = "postmaster"
#: Whose mail goes to the operator's mailbox.
OPERATORS: Final = frozenset({POSTMASTER, "abuse", "fbl", "tlsrpt", "dmarc"})
#: Of these, whose mail is taken on a disk that is nearly full (SPEC 13).
_URGENT: Final = frozenset({POSTMASTER, "abuse"})


class AboutMessage(NamedTuple):
    """A report is expected about this message of ours."""

    message_id: int


class ForOperator(NamedTuple):
    domain: str


class ForMember(NamedTuple):
    did: str
    domain: str
    is_for_postmaster: bool


Destination = AboutMessage | ForOperator | ForMember


class RefusedRecipient(NamedTuple):
    #: For a metric.
    why: str
    reply: Reply


def destination(
    view: Snapshot, config: Config, bounces: BounceAddresses, recipient: str
) -> Destination | RefusedRecipient:
    """Where mail for the recipient goes, as RCPT has it."""
    if recipient.lower() == POSTMASTER:
        return ForOperator(config.operator_domain)
    try:
        mailbox = parse_mailbox(recipient)
    except AddressError as error:
        return RefusedRecipient("malformed", bad_recipient(str(error)))
    local = mailbox.local.lower()
    if mailbox.domain == config.operator_domain:
        return _of_operator(view, bounces, mailbox.address, local)
    state = members.domain(view, mailbox.domain)
    if state is None or (config.require_verified_domains and not state.verified):
        return RefusedRecipient("relaying", _RELAYING)
    is_for_postmaster = local == POSTMASTER
    is_passed_on = forward_address(view, state.did, state.domain, config=config) is not None
    if is_for_postmaster and not is_passed_on:
        return ForOperator(state.domain)
    if not is_passed_on or (config.inbound.forward == "off" and not is_for_postmaster):
        return RefusedRecipient("not_passed_on", _NOT_AVAILABLE)
    return ForMember(state.did, state.domain, is_for_postmaster)


def is_urgent(recipient: str, config: Config) -> bool:
    """Whether it is the postmaster@ or abuse@ of the operator."""
    local, _, domain = recipient.lower().partition("@")
    return local in _URGENT and domain in ("", config.operator_domain)


def _of_operator(
    view: Snapshot, bounces: BounceAddresses, address: str, local: str
) -> Destination | RefusedRecipient:
    if local in OPERATORS:
        return ForOperator(address.rpartition("@")[2])
    message_id = bounces.parse(address)
    if message_id is None or messages.message(view, message_id) is None:
        return RefusedRecipient("unknown", _UNKNOWN)
    return AboutMessage(message_id)


_UNKNOWN: Final = Reply(550, "5.1.1", "there is no such mailbox here")
_NOT_AVAILABLE: Final = Reply(550, "5.1.1", "address not available")
_RELAYING: Final = Reply(
    550, "5.7.1", "mail for that domain is not taken here; this is no relay for strangers"
)
