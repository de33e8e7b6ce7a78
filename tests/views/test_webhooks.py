"""How a webhook stands after each of its events."""

from __future__ import annotations

from relay.events import (
    NOBODY,
    Event,
    KeyIssued,
    MemberAdded,
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
from relay.times import DAY_US
from relay.views import webhooks
from relay.views.webhooks import OldSecret, Replay, Secret, WebhookState
from tests.world.histories import DIDS
from tests.world.history_views import fold

ANN, BEN = DIDS[:2]
MEMBER = MemberAdded(did=ANN)
ADDED = WebhookAdded(
    did=ANN, webhook_id="a", cursor=7, pepper=1, key_id="k", personal=WebhookUrl(url="https://a.example")
)


def after(*events: Event) -> WebhookState:
    with fold([MEMBER, ADDED, *events]) as view:
        state = webhooks.webhook(view, "a")
        assert state is not None
        assert list(webhooks.all_webhooks(view)) == webhooks.webhooks_of(view, ANN) == [state]
        return state


def progressed(until: int, replayed: int | None = None, **fields: object) -> WebhookProgressed:
    return WebhookProgressed(did=ANN, webhook_id="a", until_seq=until, replayed_seq=replayed, **fields)  # type: ignore[arg-type]


def rewound(after_seq: int, until_seq: int) -> WebhookRewound:
    return WebhookRewound(did=ANN, webhook_id="a", after_seq=after_seq, until_seq=until_seq)


def test_the_cursor_only_goes_forward() -> None:
    assert after().cursor == 7
    assert after(progressed(9), progressed(8)).cursor == 9
    assert after(progressed(9), rewound(2, 9)).cursor == 9


def test_a_replay_has_a_place_of_its_own_and_an_end() -> None:
    assert after(rewound(2, 6)).replay == Replay(2, 6)
    assert after(rewound(2, 6), progressed(7, 4)).replay == Replay(4, 6)
    assert after(rewound(2, 6), progressed(7, 6)).replay is None
    assert after(rewound(2, 6), progressed(7)).replay is None
    assert after(rewound(2, 6), progressed(7, 4), rewound(3, 7)).replay == Replay(3, 7)


def test_what_was_skipped_is_behind_it() -> None:
    skipped = WebhookSkipped(did=ANN, webhook_id="a", skipped_seq=8, http_status=422)
    failing = progressed(7, failures=3, failing_since=5, failed_at=6, http_status=422, refused_since=5)
    assert after(failing).refused_since == 5
    state = after(failing, skipped)
    assert (state.cursor, state.refused_since, state.http_status) == (8, None, 422)
    in_a_replay = WebhookSkipped(did=ANN, webhook_id="a", skipped_seq=4, http_status=422)
    state = after(rewound(2, 6), in_a_replay)
    assert (state.replay, state.cursor) == (Replay(4, 6), 7)


def test_the_last_failure_is_remembered_once_others_were_taken() -> None:
    failing = progressed(7, failures=3, failing_since=5, failed_at=6, error="timeout")
    state = after(failing, progressed(8))
    assert (state.failures, state.failing_since, state.failed_at, state.error) == (0, None, 6, "timeout")


def test_paused_disabled_and_resumed() -> None:
    paused = WebhookPaused(did=ANN, webhook_id="a")
    resumed = WebhookResumed(did=ANN, webhook_id="a")
    disabled = WebhookDisabled(did=ANN, webhook_id="a", because="failing", until_seq=9, http_status=500)
    failing = progressed(7, failures=3, failing_since=5, failed_at=6, http_status=500)
    assert after(paused).status == "paused"
    assert after(paused, resumed).status == "active"
    state = after(failing, disabled)
    assert (state.status, state.disabled_because, state.cursor) == ("disabled", "failing", 9)
    state = after(failing, disabled, resumed)
    # Else it would be disabled again by its first failure.
    assert (state.status, state.disabled_because, state.failures, state.failing_since) == (
        "active",
        None,
        0,
        None,
    )


def test_both_secrets_sign_for_a_day_after_a_rotation() -> None:
    assert after().secrets_at(0) == [Secret(1, 1)]
    state = after(WebhookSecretRotated(did=ANN, webhook_id="a", secret_version=2, pepper=3))
    assert state.previous_secret is not None
    until = state.previous_secret.until_us
    assert state.previous_secret == OldSecret(1, 1, until)
    assert until - state.added_at >= DAY_US
    assert state.secrets_at(until - 1) == [Secret(2, 3), Secret(1, 1)]
    assert state.secrets_at(until) == [Secret(2, 3)]


def test_one_that_was_removed_is_gone_and_an_answer_that_was_on_its_way_changes_nothing() -> None:
    with fold([MEMBER, ADDED, WebhookRemoved(did=ANN, webhook_id="a"), progressed(9)]) as view:
        assert webhooks.webhook(view, "a") is None
        assert webhooks.webhooks_of(view, ANN) == []
        assert list(webhooks.all_webhooks(view)) == []


def test_each_members_and_the_operators_are_apart() -> None:
    def added(did: str, webhook_id: str) -> WebhookAdded:
        return WebhookAdded(did=did, webhook_id=webhook_id, cursor=0, pepper=1)

    with fold([MEMBER, added(ANN, "z"), added(BEN, "y"), added(ANN, "b"), added(NOBODY, "c")]) as view:
        assert [state.webhook_id for state in webhooks.webhooks_of(view, ANN)] == ["z", "b"]
        assert [state.webhook_id for state in webhooks.webhooks_of(view, BEN)] == ["y"]
        assert [state.webhook_id for state in webhooks.webhooks_of(view, NOBODY)] == ["c"]
        assert [state.is_operators for state in webhooks.webhooks_of(view, NOBODY)] == [True]


def test_it_knows_the_whole_line_of_keys_that_it_came_of() -> None:
    def issued(key_id: str, by: str | None) -> KeyIssued:
        return KeyIssued(did=ANN, key_id=key_id, key_hash="0" * 64, issued_by=by)

    with fold(
        [MEMBER, issued("i", None), issued("j", "i"), issued("k", "j"), issued("l", "k"), ADDED]
    ) as view:
        state = webhooks.webhook(view, "a")
        assert state is not None
        assert state.made_by == ("k", "j", "i")
