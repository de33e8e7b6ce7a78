"""The mail that tells the owner of a webhook that nothing is told to it any more (docs/WEBHOOKS.md).

It goes where the member hears of its bounces: to each mailbox that is the confirmed `forward_to` of one of its domains;
of the operator's own webhooks to `[inbound] operator_mailbox`, where there is one. None goes to an address that is on
any suppression list. It names the webhook and never its URL, which may carry a token.

`disabled_mails` decides which there are, as events; they stand in one batch with the `webhook.disabled`, so no crash
forgets one or makes two. `compose_webhook_notice` makes the message: a pure function of that event.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from relay.codec import Recorded
from relay.config import Config
from relay.events import NOBODY, WEBHOOK_CATEGORY, Addressee, WebhookDisabled, WebhookNoticeQueued
from relay.message import COMPOSITION
from relay.message.bodies import text_part
from relay.message.compose import Message
from relay.message.notice import notice_fields
from relay.times import SECOND_US
from relay.views import members, suppressions
from spool.views import Snapshot

SUBJECT: Final = "A webhook is disabled"

_WHY: Final = {
    "gone": "it answered 410, which says that it is gone for good",
    "failing": "it has taken nothing for five days",
}


def disabled_mails(
    view: Snapshot,
    disabled: WebhookDisabled,
    *,
    config: Config,
    operator_stem: str,
    message_id_entropy: Callable[[], str],
    now_us: int,
) -> list[WebhookNoticeQueued]:
    return [
        WebhookNoticeQueued(
            composition=COMPOSITION,
            did=disabled.did,
            domain=domain,
            next_attempt_at=now_us,
            give_up_at=now_us + config.give_up_seconds(WEBHOOK_CATEGORY) * SECOND_US,
            operator_domain=config.operator_domain,
            operator_stem=operator_stem,
            message_id_entropy=message_id_entropy(),
            link_base=config.public_url,
            webhook_id=disabled.webhook_id,
            because=disabled.because,
            until_seq=disabled.until_seq,
            http_status=disabled.http_status,
            error=disabled.error,
            personal=Addressee(given=address, address=address),
        )
        for address, domain in dict(_told(view, disabled.did, config)).items()
        if not suppressions.is_on_any_list(view, address)
    ]


def _told(view: Snapshot, did: str, config: Config) -> Iterator[tuple[str, str]]:
    """(mailbox, the domain by which it is told)"""
    if did == NOBODY:
        if config.inbound.operator_mailbox:
            yield config.inbound.operator_mailbox, config.operator_domain
        return
    for domain in members.domains_of(view, did):
        if domain.forward_to is not None and domain.forward_confirmed:
            yield domain.forward_to, domain.domain


def compose_webhook_notice(notice: Recorded) -> Message:
    """The message of a `webhook_notice.queued`, which has its payload."""
    event = notice.event
    assert isinstance(event, WebhookNoticeQueued)
    assert event.personal is not None
    text = text_part(
        "plain",
        f"""\
This is the mail delivery system of {event.operator_domain}.

Nothing is told any more to the endpoint of webhook {event.webhook_id}:
{_WHY[event.because]}.
{_last_answer(event)}
Nothing is lost. All events after number {event.until_seq} are kept, and it goes on
with them, in their order, once it is resumed:

  {_order(event, "resume")}

If it is needed no more, remove it:

  {_order(event, "remove")}
""",
    )
    headers = notice_fields(notice, SUBJECT, auto_submitted="auto-generated")
    return Message((*headers, *text.headers), text.octets)


def _last_answer(event: WebhookNoticeQueued) -> str:
    if event.http_status is not None:
        return f"Its last answer was HTTP {event.http_status}.\n"
    return f"Last there was no answer ({event.error}).\n" if event.error else ""


def _order(event: WebhookNoticeQueued, what: str) -> str:
    """What its owner has to do."""
    if event.did == NOBODY:
        return f"atmos-relay webhook {what} DIR --id {event.webhook_id}"
    path = f"{event.link_base}/v1/webhooks/{event.webhook_id}"
    return f"POST {path}/resume" if what == "resume" else f"DELETE {path}"
