"""Writes the golden files of stories that have none yet. It overwrites nothing."""

from tests.golden_messages.notices import (
    ALARMS,
    CONFIRMATIONS,
    DSN_STORIES,
    FORWARD_STORIES,
    WEBHOOK_NOTICES,
    forwarded,
    signed_alarm,
    signed_confirmation,
    signed_dsn,
    signed_webhook_notice,
)
from tests.golden_messages.stories import HERE, STORIES, WHOLE_STORIES, signed, signed_whole


def write_missing() -> None:
    messages = {name: signed(story) for name, story in STORIES.items()}
    messages |= {name: signed_dsn(story) for name, story in DSN_STORIES.items()}
    messages |= {name: signed_whole(story) for name, story in WHOLE_STORIES.items()}
    messages |= {name: forwarded(story) for name, story in FORWARD_STORIES.items()}
    messages |= {name: signed_confirmation(address) for name, address in CONFIRMATIONS.items()}
    messages |= {name: signed_webhook_notice(notice) for name, notice in WEBHOOK_NOTICES.items()}
    messages |= {name: signed_alarm(alarm) for name, alarm in ALARMS.items()}
    for name, message in messages.items():
        path = HERE / f"{name}.eml"
        if not path.exists():
            path.write_bytes(message)


write_missing()
