"""Keys that make keys: what came of one is found however long the chain, and however much was revoked meanwhile."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.decisions.keys import ACTIVE_KEYS_MAX, issue_key, made_by, revoke_key, scope_of
from relay.decisions.members import NewKey
from relay.events import Event, KeyIssued, KeyRevoked, MemberAdded
from relay.principals import FULL, SEND, Operator, Principal
from relay.refusals import Refusal
from relay.views import members, open_temporary_views
from relay.views.members import REVOKED_KEYS_KEPT
from spool.views import Snapshot
from tests.world.history_views import records_of
from tests.world.relay import DID

OPERATOR = Operator("root")


def issued(key_id: str, by: str | None = None) -> KeyIssued:
    return KeyIssued(did=DID, key_id=key_id, key_hash="0" * 64, issued_by=by)


def revoked(key_id: str) -> KeyRevoked:
    return KeyRevoked(did=DID, key_id=key_id)


@contextmanager
def after(*events: Event) -> Iterator[Snapshot]:
    with open_temporary_views() as views:
        views.apply(records_of([MemberAdded(did=DID), *events]))
        with views.read() as view:
            yield view


def ids(states: Sequence[members.KeyState]) -> set[str]:
    return {state.key_id for state in states}


def ended(events: Sequence[Event]) -> list[str]:
    assert all(isinstance(event, KeyRevoked) for event in events)
    return [event.key_id for event in events if isinstance(event, KeyRevoked)]


#: a made b and c, b made d, d made e; x is another's.
FAMILY = (issued("a"), issued("b", "a"), issued("c", "a"), issued("d", "b"), issued("e", "d"), issued("x"))


def test_what_a_key_made_and_what_that_made() -> None:
    with after(*FAMILY) as view:
        assert ids(made_by(view, DID, "a")) == {"b", "c", "d", "e"}
        assert ids(made_by(view, DID, "b")) == {"d", "e"}
        assert ids(made_by(view, DID, "e")) == set()
        assert ended(revoke_key(view, DID, "a", by=OPERATOR)) == ["a"]
        assert ended(revoke_key(view, DID, "a", all_of_it=True, by=OPERATOR)) == ["a", "b", "c", "d", "e"]


def test_a_chain_that_covers_its_tracks_is_followed() -> None:
    """Whoever stole a key makes another with it, and revokes the one in between."""
    with after(*FAMILY, revoked("b"), revoked("d")) as view:
        assert ids(made_by(view, DID, "a")) == {"c", "e"}
        assert ended(revoke_key(view, DID, "a", all_of_it=True, by=OPERATOR)) == ["a", "c", "e"]
        assert ended(revoke_key(view, DID, "b", all_of_it=True, by=OPERATOR)) == ["e"], (
            "it may be thought of afterwards"
        )


def test_what_is_revoked_with_all_of_it_is_revoked_already() -> None:
    with after(*FAMILY, *map(revoked, "abcde")) as view:
        for all_of_it in (False, True):
            with pytest.raises(Refusal, match="was revoked already"):
                revoke_key(view, DID, "a", all_of_it=all_of_it, by=OPERATOR)


@pytest.mark.parametrize(("key_id", "all_of_it"), [("b", False), ("a", True), ("b", True)])
def test_a_key_ends_itself_only_where_it_says_so(key_id: str, all_of_it: bool) -> None:
    """Also where it would go with what made it."""
    b = Principal(DID, "b", FULL)
    with after(*FAMILY) as view:
        with pytest.raises(Refusal) as refused:
            revoke_key(view, DID, key_id, all_of_it=all_of_it, by=b)
        assert refused.value.code == "CONFLICT"
        events = revoke_key(view, DID, key_id, all_of_it=all_of_it, by=b, self_too=True)
        assert "b" in ended(events)
        assert {getattr(event, "revoked_by", "") for event in events} == {"b"}
        assert ended(revoke_key(view, DID, "a", by=b)) == ["a"], "what made it may go alone"


def test_a_key_remembers_what_made_it_and_what_it_is_for() -> None:
    new = NewKey("f", "0" * 64, SEND, "mfa-otp")
    with after(*FAMILY) as view:
        (event,) = issue_key(view, DID, new, by=Principal(DID, "e", FULL))
        assert event == KeyIssued(
            did=DID, key_id="f", key_hash="0" * 64, scope="send", category="mfa-otp", issued_by="e"
        )
        with pytest.raises(Refusal, match=r"category: 'mfa' is none of"):
            issue_key(view, DID, new._replace(category="mfa"), by=OPERATOR)
    with after(*FAMILY, event) as view:
        state = members.key(view, DID, "f")
        assert state is not None
        assert (state.scope, state.category, state.issued_by) == ("send", "mfa-otp", "e")


def test_so_many_are_active() -> None:
    keys = [issued(f"k{number}") for number in range(ACTIVE_KEYS_MAX)]
    new = NewKey("new", "0" * 64)
    with after(*keys) as view, pytest.raises(Refusal, match="10 active keys"):
        issue_key(view, DID, new, by=OPERATOR)
    with after(*keys, revoked("k3")) as view:
        assert len(issue_key(view, DID, new, by=OPERATOR)) == 1


def test_what_nobody_said_about_a_scope() -> None:
    assert scope_of(None, None) == FULL
    assert scope_of(None, "bulk") == SEND
    assert scope_of(FULL, "bulk") == FULL
    assert scope_of(SEND, None) == SEND


# ------------------------------------------------------------------------------------------------ what is kept


def test_of_revoked_keys_the_last_are_kept_and_the_way_between_keys_has_no_gap() -> None:
    """A key that makes its own successor, day after day for years: the views stay small, and what came of the keys
    that are kept is known."""
    events: list[Event] = [issued("0"), issued("aside", "0")]
    for number in range(1, 3 * REVOKED_KEYS_KEPT):
        events += [issued(str(number), str(number - 1)), revoked(str(number - 1))]
    last = 3 * REVOKED_KEYS_KEPT - 1
    with after(*events) as view:
        kept = members.keys_of(view, DID)
        oldest = last - REVOKED_KEYS_KEPT
        assert ids(kept) == {str(number) for number in range(oldest, last + 1)} | {"aside"}
        assert ids(made_by(view, DID, str(oldest))) == {str(last)}
        first = members.key(view, DID, str(oldest))
        aside = members.key(view, DID, "aside")
        assert first is not None
        assert aside is not None
        assert first.issued_by is None
        assert aside.issued_by is None


@settings(derandomize=True, max_examples=60)
@given(st.data())
def test_what_came_of_a_key_is_what_a_walk_over_the_whole_history_says(data: st.DataObject) -> None:
    parents: dict[str, str | None] = {}
    gone: deque[str] = deque()
    events: list[Event] = []
    for number in range(data.draw(st.integers(1, 40))):
        active = [key for key in parents if key not in gone]
        if active and data.draw(st.booleans()):
            gone.append(data.draw(st.sampled_from(active)))
            events.append(revoked(gone[-1]))
        parents[f"k{number}"] = data.draw(st.sampled_from([None, *active]))
        events.append(issued(f"k{number}", parents[f"k{number}"]))

    def ancestors(key: str | None) -> Iterator[str]:
        while key is not None and (key := parents[key]) is not None:
            yield key

    kept_max = data.draw(st.integers(1, 5))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("relay.views.members.REVOKED_KEYS_KEPT", kept_max)
        with after(*events) as view:
            kept = ids(members.keys_of(view, DID))
            assert kept == set(parents) - set(list(gone)[: max(0, len(gone) - kept_max)])
            for key in kept:
                expected = {child for child in parents if child not in gone and key in ancestors(child)}
                assert ids(made_by(view, DID, key)) == expected, key
