"""The judge of what is erased sees a record that is erased while it is in force, and no other."""

from __future__ import annotations

from relay.codec import Recorded
from relay.events import (
    DomainForwardSet,
    DomainRemoved,
    Event,
    ForwardAddress,
    MemberRemoved,
    PayloadErased,
    WebhookAdded,
    WebhookRemoved,
    WebhookUrl,
)
from tests.world.payloads import Payloads

DID, DOMAIN = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa", "d.example"
REMOVED = DomainRemoved(did=DID, domain=DOMAIN, because="member")


def forward(address: str) -> DomainForwardSet:
    return DomainForwardSet(did=DID, domain=DOMAIN, personal=ForwardAddress(address=address))


def erased(*seqs: int) -> PayloadErased:
    return PayloadErased(did=DID, because="retention", seqs=[*seqs])


def breaches(*events: Event) -> list[str]:
    judge = Payloads()
    judge.see(Recorded(seq, seq, event) for seq, event in enumerate(events, 1))
    return judge.found


def test_a_mailbox_in_use_may_not_go() -> None:
    assert breaches(forward("a@x.example"), erased(1)) == ["seq 2: record 1 is erased, and is in force"]
    # Named again: its owner's confirmation hangs on the first.
    assert breaches(forward("a@x.example"), forward("a@x.example"), erased(1)) != []


def test_what_is_over_may_go() -> None:
    assert breaches(forward("a@x.example"), forward("b@x.example"), erased(1)) == []
    assert breaches(forward("a@x.example"), REMOVED, MemberRemoved(did=DID), erased(1, 2, 3)) == []


def test_the_url_of_a_webhook_may_go_with_it() -> None:
    added = WebhookAdded(
        did=DID, webhook_id="w", cursor=0, pepper=1, personal=WebhookUrl(url="https://x.example/")
    )
    removed = WebhookRemoved(did=DID, webhook_id="w")
    assert breaches(added, erased(1)) == ["seq 2: record 1 is erased, and is in force"]
    assert breaches(added, removed, erased(1)) == []


def test_what_may_go_is_gone_once_the_log_says_so() -> None:
    judge = Payloads()
    log = [Recorded(seq, seq, event) for seq, event in enumerate((forward("a@x.example"), REMOVED), 1)]
    judge.see(log)
    judge.compare([log[0]._replace(event=DomainForwardSet(did=DID, domain=DOMAIN)), log[1]])
    assert judge.found == ["the payload of 1 is gone, and no payload.erased admits it"]
