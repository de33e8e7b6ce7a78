"""A mail of 10 MiB, and what of it has to fit where: a batch of the log, a line of an export, a composer's memory."""

from __future__ import annotations

from pathlib import Path

import trio

from relay.codec import decode, encode
from relay.events import Content, Event, MessageQueued, Recipient, SendAccepted
from spool.log import BATCH_BYTES_MAX, open_log
from spool.record import entry_bytes
from tests.golden_events.literals import DID

TEN_MIB = 10 << 20
RECIPIENTS_MAX = 100


def send_of(raw: bytes) -> list[Event]:
    """The longest addresses that there are, too."""
    address = f"{'l' * 64}@{'d' * 60}.{'d' * 60}.{'d' * 60}.example"
    accepted = SendAccepted(
        did=DID,
        domain="member.example",
        category="bulk",
        recipients=RECIPIENTS_MAX,
        key_id="0a1b2c3d4e5f",
        selector_stem="atmos20251124",
        operator_domain="relay.example",
        operator_stem="atmos20250101",
        message_id_entropy="00112233445566ff",
        via="smtp",
        personal=Content(from_address=address, subject="s" * 4000, raw=raw),
    )
    queued = [
        MessageQueued(
            did=DID,
            domain="member.example",
            category="bulk",
            index=index,
            next_attempt_at=1,
            give_up_at=2,
            personal=Recipient(given=address, name="n" * 128, address=address),
        )
        for index in range(1, RECIPIENTS_MAX + 1)
    ]
    return [accepted, *queued]


def test_a_mail_of_ten_mebibytes_to_a_hundred_is_one_batch_of_the_log(tmp_path: Path) -> None:
    raw = bytes(range(256)) * (TEN_MIB // 256)
    entries = [encode(event, bytes) for event in send_of(raw)]
    assert sum(map(entry_bytes, entries)) < BATCH_BYTES_MAX

    async def main() -> None:
        async with open_log(tmp_path / "log", segment_bytes_max=4096) as log:
            records = await log.append(entries)
            assert len({record.batch_seq for record in records}) == 1
            found = decode(log.get(1)).event
            assert isinstance(found, SendAccepted)
            assert found.personal is not None
            assert found.personal.raw == raw

    trio.run(main)
