"""Rows are sealed: by the pepper in use, for one place, and whoever has another pepper is told so."""

from __future__ import annotations

from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.message.keys import Pepper, Peppers
from relay.nodes.seal import BESIDE, ROWS, SEAL_OCTETS, Seal, SealError, differing_pepper, pepper_digests

PLACE = b"batch 7 to 9"


def peppers(*roots: int) -> Peppers:
    return Peppers({number: Pepper(bytes([root]) * 32) for number, root in enumerate(roots, 1)})


def seal(of: Peppers | None = None, purpose: str = ROWS) -> Seal:
    numbers = count(1)
    return Seal(of or peppers(1), purpose, lambda octets: next(numbers).to_bytes(octets, "big"))


@given(st.binary(max_size=300), st.binary(max_size=40))
def test_what_was_sealed_opens_at_its_place(data: bytes, place: bytes) -> None:
    sealed = seal().seal(data, place)
    assert len(sealed) == len(data) + SEAL_OCTETS
    assert len(data) < 4 or data not in sealed
    assert seal().open(sealed, place) == data


def test_every_bit_is_under_the_seal() -> None:
    sealed = seal().seal(b"a batch", PLACE)
    for bit in range(8 * len(sealed)):
        altered = bytearray(sealed)
        altered[bit // 8] ^= 1 << bit % 8
        with pytest.raises(SealError):
            seal().open(bytes(altered), PLACE)


def test_what_is_cut_short_or_longer_or_elsewhere_is_refused() -> None:
    sealed = seal().seal(b"a batch", PLACE)
    for length in range(len(sealed)):
        with pytest.raises(SealError):
            seal().open(sealed[:length], PLACE)
    with pytest.raises(SealError, match="altered"):
        seal().open(sealed + b"\0", PLACE)
    with pytest.raises(SealError, match="another place"):
        seal().open(sealed, b"batch 8 to 9")


def test_another_pepper_is_told_from_damage() -> None:
    sealed = seal(peppers(1)).seal(b"a batch", PLACE)
    with pytest.raises(SealError, match="another pepper than this node's number 1"):
        seal(peppers(2)).open(sealed, PLACE)


def test_what_is_new_is_sealed_by_the_pepper_in_use_and_what_was_before_opens() -> None:
    both = peppers(1, 2)
    ours = seal(both)
    before = ours.seal(b"before", PLACE)
    both.use(2)
    after = ours.seal(b"after", PLACE)
    assert ours.open(before, PLACE) == b"before"
    assert ours.open(after, PLACE) == b"after"
    assert seal(peppers(1)).open(before, PLACE) == b"before"
    with pytest.raises(SealError, match=r"that this node does not have: pepper\.2: is missing"):
        seal(peppers(1)).open(after, PLACE)


def test_a_pepper_that_comes_later_opens_what_came_before_it() -> None:
    both = peppers(1, 2)
    both.use(2)
    sealed = seal(both).seal(b"after", PLACE)
    late = peppers(1)
    ours = seal(late)
    with pytest.raises(SealError):
        ours.open(sealed, PLACE)
    late.add(2, Pepper(bytes([2]) * 32))
    assert ours.open(sealed, PLACE) == b"after"


def test_one_purpose_is_not_another() -> None:
    with pytest.raises(SealError, match="another pepper"):
        seal(purpose=BESIDE).open(seal().seal(b"a batch", PLACE), PLACE)


def test_the_same_data_are_never_sealed_to_the_same_octets() -> None:
    ours = seal()
    assert ours.seal(b"a batch", PLACE) != ours.seal(b"a batch", PLACE)


def test_digests_tell_peppers_apart_and_nothing_of_them() -> None:
    one, other = pepper_digests(peppers(1, 2)), pepper_digests(peppers(1, 3))
    assert one["1"] == other["1"]
    assert differing_pepper(one, other) == "2"
    assert differing_pepper(one, {"1": one["1"]}) is None
    assert differing_pepper(one, {}) is None
    assert bytes([1]) * 32 not in bytes.fromhex(one["1"])
