"""What the owner of a webhook is told by mail, in the batch that makes it true (`relay.message.webhook_notice`).

An owner is told a few times a day at most (`relay.quota`): who resumes a webhook whose endpoint answers 410, again and
again, would have the relay fill a mailbox. The webhook itself always says how it is.
"""

from __future__ import annotations

from collections.abc import Sequence

from relay.core import Core
from relay.events import Event, WebhookDisabled
from relay.message.webhook_notice import disabled_mails
from spool.views import Snapshot


def with_mails(core: Core, view: Snapshot, events: Sequence[Event]) -> list[Event]:
    """These events, and behind each `webhook.disabled` the mails that tell of it."""
    result: list[Event] = []
    for event in events:
        result.append(event)
        if isinstance(event, WebhookDisabled) and core.quota.take_webhook_notice(event.did):
            result += disabled_mails(
                view,
                event,
                config=core.config,
                operator_stem=core.operator_stem_in(view),
                message_id_entropy=lambda: f"{core.surroundings.dice.getrandbits(64):016x}",
                now_us=core.store.now_us(),
            )
    return result
