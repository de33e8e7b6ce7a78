"""Golden events of what an operator is to see: alarms, lists, providers, the console, machines."""

from collections.abc import Mapping
from typing import Final

from relay.events import (
    Addressee,
    AlarmQueued,
    ConsoleEpochRaised,
    Event,
    NodeLeads,
    ProviderReported,
    SourceDelisted,
    SourceListed,
)
from tests.golden_events.facts import ACCEPTED_AT_US, DID, MINUTE_US

SEEING: Final[Mapping[tuple[str, int], Event]] = {
    ("alarm.queued", 1): AlarmQueued(
        did=DID,
        domain="member.example",
        next_attempt_at=ACCEPTED_AT_US,
        give_up_at=ACCEPTED_AT_US + 60 * MINUTE_US,
        operator_domain="relay.example",
        operator_stem="atmos20250101",
        message_id_entropy="00112233445566ff",
        composition=3,
        alarm="domain_paused",
        about="member.example",
        says=["Domain member.example is paused for its bounce rate: 3 of 20.", "Clean the list."],
        personal=Addressee(
            given="büro@xn--bcher-kva.example", name="Büro", address="büro@xn--bcher-kva.example"
        ),
    ),
    ("source.listed", 1): SourceListed(
        source="192.0.2.25",
        dnsbl="zen.spamhaus.org",
        codes=["127.0.0.2", "127.0.0.9"],
        text="https://www.spamhaus.org/query/ip/192.0.2.25",
    ),
    ("source.delisted", 1): SourceDelisted(source="192.0.2.25", dnsbl="zen.spamhaus.org"),
    ("provider.reported", 1): ProviderReported(
        provider="google",
        domain="member.example",
        date="2026-11-30",
        spam_rate=0.0007,
        compliance={"dmarc": "met", "one_click": "not_met"},
        by="postmaster",
    ),
    ("console.epoch_raised", 1): ConsoleEpochRaised(epoch=1, by="postmaster"),
    ("node.leads", 1): NodeLeads(node="mx2", epoch=7, address="192.0.2.25:8027"),
}
