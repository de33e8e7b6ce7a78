"""What members do in a history that hypothesis draws, and their webhooks: the half of `tests.world.histories` that has
nothing to do with mail."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from relay.events import (
    NOBODY,
    DomainAdded,
    DomainRemoved,
    DomainVerified,
    KeyIssued,
    KeyRevoked,
    MemberAdded,
    MemberHandleCheckFailed,
    MemberHandleLost,
    MemberHandleSet,
    MemberHandleVerified,
    MemberRemoved,
    OperatorsReason,
    WebhookAdded,
    WebhookDisabled,
    WebhookPaused,
    WebhookProgressed,
    WebhookRemoved,
    WebhookResumed,
    WebhookRewound,
    WebhookSecretRotated,
    WebhookSkipped,
    WebhookUrl,
)
from tests.world.history_views import SECOND_US, START_US, History

DIDS = ("did:plc:aaaaaaaaaaaaaaaaaaaaaaaa", "did:plc:bbbbbbbbbbbbbbbbbbbbbbbb", "did:web:c.example")
HANDLES = ("mira.example.com", "a.mira.example.com", "mira.example.co")


def domain_of(did: str) -> str:
    return f"d{DIDS.index(did) + 1}.example" if did else "relay.example"


@dataclass
class DrawnWebhook:
    did: str
    key_id: str | None
    cursor: int
    #: The end of the replay that is under way.
    replay_until: int | None = None
    is_active: bool = True
    secrets: int = 1


class MembersDraft:
    """A history in the making: its members, what they hold, and who listens."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.events: History = []
        #: With a domain, and without.
        self.members: list[str] = []
        self.left: list[str] = []
        self.active_keys: list[tuple[str, str]] = []
        #: Members that are suspended and domains that are paused.
        self.stopped: set[str] = set()
        #: Who holds which handle.
        self.handles: dict[str, str] = {}
        self.webhooks: dict[str, DrawnWebhook] = {}

    def add_member(self) -> None:
        self.enrol(next(did for did in DIDS if did not in (*self.members, *self.left)))

    def enrol(self, did: str) -> None:
        self.members.append(did)
        self.events += [
            MemberAdded(did=did),
            DomainAdded(
                did=did,
                domain=domain_of(did),
                selector_stem=f"atmos20251124-{len(self.events)}",
                rsa_public="r",
                ed25519_public="e",
            ),
        ]

    def leave(self) -> None:
        """Its mail may come to any end yet, of what was under way, and until it is cancelled."""
        did = self.pick(self.members)
        self.members.remove(did)
        self.left.append(did)
        self.stopped.discard(did)
        self.handles.pop(did, None)
        self.end_webhooks(did, "member_removed")
        self.events += [
            DomainRemoved(
                did=did,
                domain=domain_of(did),
                because="member",
                selector_stems=["s"],
                by="root",
                personal=OperatorsReason(why="a@example.com asked"),
            ),
            MemberRemoved(did=did, by="root", personal=OperatorsReason(why="a@example.com asked")),
        ]

    def come_back(self) -> None:
        did = self.pick(self.left)
        self.left.remove(did)
        self.enrol(did)

    def verify(self) -> None:
        did = self.pick(self.members)
        self.events.append(DomainVerified(did=did, domain=domain_of(did)))

    def change_handle(self) -> None:
        """What a member holds is looked at or lost; one that it does not hold it gets, from another if need be."""
        did, handle = self.pick(self.members), self.pick(list(HANDLES))
        if self.handles.get(did) == handle:
            kind = self.pick(["verified", "failed", "lost"])
            if kind == "verified":
                self.events.append(MemberHandleVerified(did=did, handle=handle))
            elif kind == "failed":
                self.events.append(MemberHandleCheckFailed(did=did, handle=handle, failed=["document"]))
            else:
                del self.handles[did]
                self.events.append(MemberHandleLost(did=did, handle=handle, because="operator", by="root"))
            return
        before = next((other for other, held in self.handles.items() if held == handle), None)
        if before is not None:
            del self.handles[before]
            self.events.append(MemberHandleLost(did=before, handle=handle, because="proved"))
        self.handles[did] = handle
        proved = before is not None or self.pick([True, False])
        self.events.append(
            MemberHandleSet(did=did, handle=handle, proved=proved, instead_of=before, by="root")
        )

    def issue_key(self) -> None:
        did = self.pick(self.members)
        key_id = f"{len(self.events):012x}"
        self.active_keys.append((did, key_id))
        self.events.append(KeyIssued(did=did, key_id=key_id, key_hash="0" * 64))

    def revoke_key(self) -> None:
        did, key_id = self.pick(self.active_keys)
        self.active_keys.remove((did, key_id))
        self.events.append(KeyRevoked(did=did, key_id=key_id))

    # ---------------------------------------------------------------- webhooks

    def webhook_steps(self) -> list[Any]:
        steps: list[Any] = [self.add_webhook] if len(self.webhooks) < 4 else []
        if self.webhooks:
            steps += [
                self.progress,
                self.progress,
                self.turn_webhook,
                self.rotate_secret,
                self.remove_webhook,
            ]
        if any(hook.is_active for hook in self.webhooks.values()):
            steps += [self.skip, self.disable, self.rewind]
        return steps

    def add_webhook(self) -> None:
        """By a member, or the operator for all of them."""
        did = self.pick([NOBODY, *self.members])
        key_id = next((key for owner, key in self.active_keys if owner == did), "k")
        cursor = self.draw(st.integers(0, len(self.events)))
        webhook_id = f"w{len(self.events)}"
        self.webhooks[webhook_id] = DrawnWebhook(did, key_id if did else None, cursor)
        self.events.append(
            WebhookAdded(
                did=did,
                webhook_id=webhook_id,
                types=self.pick([[], ["message.sent"], ["message.sent", "message.bounced"]]),
                batch=self.pick([1, 100]),
                cursor=cursor,
                ed25519=self.pick([False, True]),
                pepper=1,
                **self.by_whom(webhook_id),
                personal=WebhookUrl(url="https://a.example/hook?token=a@example.com"),
            )
        )

    def by_whom(self, webhook_id: str) -> dict[str, Any]:
        """Who orders it: the member's key, or the operator, who may order about members' too."""
        key_id = self.webhooks[webhook_id].key_id
        return {"key_id": key_id} if key_id and self.draw(st.booleans()) else {"by": "root"}

    def progress(self) -> None:
        webhook_id, hook = self.pick_webhook()
        hook.cursor = self.draw(st.integers(hook.cursor, len(self.events)))
        failed = self.pick(
            [{}, {"http_status": 500}, {"error": "timeout"}, {"http_status": 404, "refused_since": START_US}]
        )
        if failed:
            failed = {"failures": 3, "failing_since": START_US, "failed_at": self.time(), **failed}
        replayed = None
        if hook.replay_until is not None:
            replayed = self.pick([hook.replay_until - 1, hook.replay_until])
            hook.replay_until = None if replayed == hook.replay_until else hook.replay_until
        self.events.append(
            WebhookProgressed(
                did=hook.did, webhook_id=webhook_id, until_seq=hook.cursor, replayed_seq=replayed, **failed
            )
        )

    def skip(self) -> None:
        webhook_id, hook = self.pick_webhook(active=True)
        if hook.cursor < len(self.events):
            hook.cursor += 1
            self.events.append(
                WebhookSkipped(did=hook.did, webhook_id=webhook_id, skipped_seq=hook.cursor, http_status=400)
            )

    def disable(self) -> None:
        webhook_id, hook = self.pick_webhook(active=True)
        hook.is_active = False
        because = self.pick([{"because": "gone", "http_status": 410}, {"because": "failing", "error": "dns"}])
        self.events.append(
            WebhookDisabled(did=hook.did, webhook_id=webhook_id, until_seq=hook.cursor, **because)
        )
        self.tell_of_webhook(hook.did, webhook_id)

    def tell_of_webhook(self, did: str, webhook_id: str) -> None:
        """Perhaps its owner is told by mail that it is disabled."""

    def turn_webhook(self) -> None:
        """It is paused, or goes on."""
        webhook_id, hook = self.pick_webhook()
        order = WebhookPaused if hook.is_active else WebhookResumed
        hook.is_active = not hook.is_active
        self.events.append(order(did=hook.did, webhook_id=webhook_id, **self.by_whom(webhook_id)))

    def rewind(self) -> None:
        webhook_id, hook = self.pick_webhook(active=True)
        if hook.cursor < 2:
            return
        until = self.draw(st.integers(1, hook.cursor))
        hook.replay_until = until
        self.events.append(
            WebhookRewound(
                did=hook.did,
                webhook_id=webhook_id,
                after_seq=self.draw(st.integers(0, until - 1)),
                until_seq=until,
                **self.by_whom(webhook_id),
            )
        )

    def rotate_secret(self) -> None:
        webhook_id, hook = self.pick_webhook()
        hook.secrets += 1
        self.events.append(
            WebhookSecretRotated(
                did=hook.did,
                webhook_id=webhook_id,
                secret_version=hook.secrets,
                pepper=self.pick([1, 2]),
                **self.by_whom(webhook_id),
            )
        )

    def remove_webhook(self) -> None:
        webhook_id, hook = self.pick_webhook()
        self.events.append(WebhookRemoved(did=hook.did, webhook_id=webhook_id, **self.by_whom(webhook_id)))
        del self.webhooks[webhook_id]

    def end_webhooks(self, did: str, because: Any) -> None:
        """All of the member's, in one go."""
        for webhook_id in [key for key, hook in self.webhooks.items() if hook.did == did]:
            del self.webhooks[webhook_id]
            self.events.append(WebhookRemoved(did=did, webhook_id=webhook_id, because=because, by="root"))

    def pick_webhook(self, *, active: bool = False) -> tuple[str, DrawnWebhook]:
        names = sorted(key for key, hook in self.webhooks.items() if hook.is_active or not active)
        webhook_id = self.pick(names)
        return webhook_id, self.webhooks[webhook_id]

    # ----------------------------------------------------------------

    def pick(self, among: Sequence[Any]) -> Any:
        return self.draw(st.sampled_from(among))

    def time(self) -> int:
        """Few different times, so that several messages are due at the same one."""
        return START_US + self.draw(st.integers(0, 4)) * SECOND_US
