"""Confirming that a domain's notifications may go to a mailbox: the mail that asks, and the link in it (SPEC 4).

`confirm_forward` is what happens when the link is used, by whoever holds it: what proves the right to say so is the
token, which this relay sealed, for one mail to that mailbox.

`ask_the_unasked` is a task of a running relay. Mailboxes that members had set before there was such a mail are silent
until they are confirmed; each of their owners is asked once, when a relay first runs that knows of it. It ends when
nobody is left to be asked. Cancelled or killed, it goes on with the next start: who was asked is in the log.
"""

from __future__ import annotations

import logging
from functools import partial

import trio

from relay.alarm import Alarm
from relay.core import Core
from relay.decisions.forwarding import confirm, is_unasked
from relay.events import ConfirmationQueued
from relay.message.confirmation import confirmation_mail, mailable_from
from relay.principals import Stranger
from relay.refusals import Refusal
from relay.registry import Arguments, decision
from relay.views import members, suppressions
from spool.views import Snapshot

logger = logging.getLogger(__name__)


class ConfirmForward(Arguments, frozen=True, kw_only=True):
    """The owner of a mailbox wants to hear of a domain's bounces."""

    token: str


@decision(by=Stranger)
async def confirm_forward(core: Core, wanted: ConfirmForward, stranger: Stranger) -> None:
    """A repeat changes nothing. Raises Refusal(NOT_FOUND) for a link that is not ours, or is good no more."""
    link = core.composer.confirmations.open(wanted.token)
    if link is None:
        raise Refusal("NOT_FOUND", "this is no link of this relay")
    await core.writes.decide(stranger, lambda view: confirm(view, link))


def mail_to(core: Core, view: Snapshot, domain: str, address: str) -> ConfirmationQueued | None:
    """What asks the owner of `address`; None: there is a reason not to write there, or not yet."""
    return confirmation_mail(
        view,
        domain,
        address,
        config=core.config,
        operator_stem=core.operator_stem,
        message_id_entropy=f"{core.surroundings.dice.getrandbits(64):016x}",
        now_us=core.store.now_us(),
    )


async def ask_the_unasked(core: Core, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    """Ask the owners of mailboxes that members set before owners were asked; one mail to each in 24 hours."""
    alarm = Alarm(core.store.now_us)
    task_status.started()
    while True:
        with core.store.read() as view:
            unasked = [state for state in members.domains(view) if is_unasked(state)]
        asked = 0
        for state in unasked:
            asked += len(await core.store.decide(partial(_mail_of, core, state.did, state.domain)))
        if asked:
            logger.info("forward_to.asked", extra={"mails": asked})
        with core.store.read() as view:
            later = [
                mailable_from(view, state.forward_to)
                for state in members.domains(view)
                if is_unasked(state)
                and state.forward_to is not None
                and not suppressions.is_on_any_list(view, state.forward_to)
            ]
        if not later:
            return
        await alarm.wait(min(later))


def _mail_of(core: Core, did: str, name: str, view: Snapshot) -> list[ConfirmationQueued]:
    state = members.enrolment(view, did, name)
    if state is None or state.forward_to is None or not is_unasked(state):
        return []
    mail = mail_to(core, view, name, state.forward_to)
    return [] if mail is None else [mail]
