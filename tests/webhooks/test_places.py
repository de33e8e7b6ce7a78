"""Places for requests: members take turns, and what is slow has few of them."""

from __future__ import annotations

from collections import Counter

from relay.webhooks.places import (
    HUNG_SECONDS,
    PLACES_MAX,
    SLOW_BESIDE_OTHERS_MAX,
    SLOW_MAX,
    Places,
)


def given(places: Places, now: float = 0.0) -> list[str]:
    found = []
    while (who := places.next(now)) is not None:
        found.append(who)
    return found


def want(places: Places, member: str, count: int, *, failed: bool = False, name: str = "") -> None:
    for number in range(count):
        places.want(f"{name or member}{number}", member, failed=failed)


def test_members_take_turns_and_have_eight_places_each() -> None:
    places = Places()
    want(places, "a", 20)
    want(places, "b", 20)
    places.want("c0", "c", failed=False)
    assert given(places)[:5] == ["a0", "b0", "c0", "a1", "b1"]
    places.give_back("a0")
    assert given(places) == ["a8"]


def test_there_are_so_many_places() -> None:
    places = Places()
    for number in range(100):
        places.want(f"{number}", f"{number}", failed=False)
    assert len(given(places)) == PLACES_MAX
    places.give_back("3")
    assert given(places) == [f"{PLACES_MAX}"]


def test_slow_ones_have_a_quarter_and_few_while_others_wait() -> None:
    places = Places()
    for number in range(100):
        places.want(f"slow{number}", f"s{number}", failed=True)
    assert len(given(places)) == SLOW_MAX <= 64 / 4

    places = Places()
    for number in range(100):
        places.want(f"slow{number}", f"s{number}", failed=True)
        places.want(f"good{number}", f"g{number}", failed=False)
    kinds = Counter(who[:4] for who in given(places))
    assert kinds == {"slow": SLOW_BESIDE_OTHERS_MAX, "good": PLACES_MAX - SLOW_BESIDE_OTHERS_MAX}


def test_where_all_begin_to_hang_at_once_those_that_are_too_many_lose_their_places_to_others() -> None:
    places = Places()
    for number in range(PLACES_MAX):
        places.want(f"{number}", f"{number}", failed=False)
    assert len(given(places, 0.0)) == PLACES_MAX
    # Nobody waits: nobody is ended.
    assert places.surplus(HUNG_SECONDS) is None
    assert places.look_again_at(0.0) is None
    places.want("good", "g", failed=False)
    assert places.surplus(HUNG_SECONDS - 0.1) is None
    assert places.look_again_at(0.0) == HUNG_SECONDS
    ended = 0
    while (who := places.surplus(HUNG_SECONDS)) is not None:
        places.give_back(who)
        ended += 1
        if ended == 1:
            assert given(places, HUNG_SECONDS) == ["good"]
            for number in range(100):
                places.want(f"more{number}", f"m{number}", failed=False)
        else:
            assert len(given(places, HUNG_SECONDS)) == 1
    # A quarter goes on to its end.
    assert ended == PLACES_MAX - SLOW_MAX


def test_dead_ones_that_took_a_quarter_while_nobody_waited_give_it_back_when_somebody_does() -> None:
    places = Places()
    for number in range(SLOW_MAX):
        places.want(f"slow{number}", f"s{number}", failed=True)
    assert len(given(places)) == SLOW_MAX
    for number in range(100):
        places.want(f"good{number}", f"g{number}", failed=False)
    given(places, 1.0)
    ended = 0
    while (who := places.surplus(HUNG_SECONDS)) is not None:
        places.give_back(who)
        ended += 1
        assert len(given(places, HUNG_SECONDS)) == 1
    assert ended == SLOW_MAX - SLOW_BESIDE_OTHERS_MAX


def test_who_waits_no_more_has_no_turn() -> None:
    places = Places()
    want(places, "a", 3)
    places.forget("a1")
    places.forget("nobody")
    assert given(places) == ["a0", "a2"]
