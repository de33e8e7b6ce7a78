"""What is ordered about a webhook holds, also while a request is under way; where it may go, and what signs."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import trio

from relay.events import (
    WebhookDisabled,
    WebhookPaused,
    WebhookRemoved,
    WebhookResumed,
    WebhookRewound,
    WebhookSecretRotated,
)
from relay.views.webhooks import webhook
from relay.webhook_targets import WebhooksConfig
from tests.world.relay import DID, OTHER_DID, run
from tests.world.webhooks import HOST, Request, open_teller

DAY = 24 * 3600


@pytest.mark.parametrize("status", [204, 500])
def test_a_rewind_while_a_replay_is_under_way_begins_where_it_says(tmp_path: Path, status: int) -> None:
    async def main() -> None:
        async with open_teller(tmp_path / "data") as teller:
            one = await teller.add()
            seqs = await teller.happens(6)
            await teller.until_told(one, seqs)

            async def slowly(request: Request) -> int:
                await trio.sleep(10)
                return status

            def rewound(after_seq: int) -> WebhookRewound:
                return WebhookRewound(
                    did=DID, webhook_id=one.webhook_id, after_seq=after_seq, until_seq=seqs[-1]
                )

            one.answer = slowly
            await teller.order(rewound(seqs[3]))
            await teller.until(lambda: len(one.requests) == 7)
            one.answer = lambda request: 204
            await teller.order(rewound(seqs[0]))
            await teller.until(lambda: len(one.requests) == 12)
            assert [request.told for request in one.requests[6:]] == [[seq] for seq in [seqs[4], *seqs[1:]]]
            await trio.sleep(300)
            assert len(one.requests) == 12

    run(main)


@pytest.mark.parametrize("status", [204, 410, 500])
@pytest.mark.parametrize("order", ["removed", "paused", "resumed", "rewound"])
def test_what_is_ordered_while_a_request_is_under_way_is_not_undone_by_its_outcome(
    tmp_path: Path, order: str, status: int
) -> None:
    async def main() -> None:
        async with open_teller(tmp_path / "data") as teller:
            one = await teller.add()
            seqs = await teller.happens(3)
            await teller.until_told(one, seqs)

            async def slowly(request: Request) -> int:
                await trio.sleep(10)
                return status

            one.answer = slowly
            seqs += await teller.happens(2)
            await teller.until(lambda: len(one.requests) == 4)
            asked = {"did": DID, "webhook_id": one.webhook_id}
            if order == "removed":
                await teller.order(WebhookRemoved(**asked))
            elif order in ("paused", "resumed"):
                await teller.order(WebhookPaused(**asked))
                if order == "resumed":
                    await teller.order(WebhookResumed(**asked))
            else:
                await teller.order(WebhookRewound(**asked, after_seq=0, until_seq=seqs[1]))
            # Of the next ones: that which is under way takes its time.
            one.answer = lambda request: 204
            await trio.sleep(300)
            with teller.core.store.read() as view:
                state = webhook(view, one.webhook_id)
            if order == "removed":
                assert state is None
                assert len(one.requests) == 4
                assert not teller.logged(WebhookDisabled)
            elif order == "paused":
                assert state is not None
                assert state.status == "paused"
                assert len(one.requests) == 4
                await teller.order(WebhookResumed(**asked))
                await teller.until_told(one, seqs[3 if status != 204 else 4 :])
            else:
                assert state is not None
                assert state.status == "active"
                live = seqs[4:] if status == 204 else seqs[3:]
                again = seqs[:2] if order == "rewound" else []
                # The replay is told, and then what is behind.
                assert [seq for request in one.requests[4:] for seq in request.told] == [*again, *live]

    run(main)


def test_both_secrets_sign_for_a_day(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_teller(tmp_path / "data") as teller:
            one = await teller.add(ed25519=True)
            await teller.happens()
            await trio.sleep(1)
            await teller.order(
                WebhookSecretRotated(did=DID, webhook_id=one.webhook_id, secret_version=2, pepper=1)
            )
            await teller.happens()
            await trio.sleep(DAY)
            await teller.happens()
            await trio.sleep(1)
            signed = [request.headers["webhook-signature"].split() for request in one.requests]
            assert [[one.partition(",")[0] for one in each] for each in signed] == [
                ["v1", "v1a"],
                ["v1", "v1", "v1a", "v1a"],
                ["v1", "v1a"],
            ]

    run(main)


def test_an_address_that_is_not_public_is_not_connected_to(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_teller(tmp_path / "data", addresses=("169.254.169.254",)) as teller:
            one = await teller.add()
            await teller.happens()
            await trio.sleep(1)
            assert teller.receiver.connections == 0
            (attempt,) = teller.webhooks.attempts(one.webhook_id)
            assert (attempt.http_status, attempt.error) == (None, "address")

    run(main)


def test_http_and_private_addresses_are_good_where_the_operator_allows_them_and_for_nobody_else(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        allow = [f"{DID} {HOST}:80"]
        async with open_teller(tmp_path / "data", addresses=("10.0.0.1",), allow=allow) as teller:
            allowed = await teller.add(scheme="http")
            not_allowed = await teller.add(scheme="http", did=OTHER_DID)
            seqs = await teller.happens() + await teller.happens(did=OTHER_DID)
            await trio.sleep(1)
            assert allowed.taken == seqs[:1]
            assert not_allowed.requests == []

    run(main)


def test_a_place_that_is_allowed_no_more_is_spoken_to_no_more_over_the_connection_that_is_there(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        allow = [f"{DID} {HOST}:443"]
        async with open_teller(tmp_path / "data", addresses=("10.0.0.1",), allow=allow) as teller:
            one = await teller.add()
            seqs = await teller.happens()
            await teller.until_told(one, seqs)
            config = msgspec.structs.replace(teller.core.config, webhooks=WebhooksConfig())
            teller.core.settings.take(config)
            await teller.happens()
            await trio.sleep(1)
            assert one.taken == seqs
            assert teller.receiver.open == 0
            (failed,) = (each for each in teller.webhooks.attempts(one.webhook_id) if not each.is_taken)
            assert failed.error == "address"

    run(main)
