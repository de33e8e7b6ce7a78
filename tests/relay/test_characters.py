"""What nobody can see is refused where it would tell two addresses apart, and addresses are compared as people do."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.addresses import AddressError, parse_mailbox
from relay.characters import comparable, invisible
from tests.world.relay import open_world, run

#: The kinds of the case, each with one of it.
UNSEEN = [
    *"\u00ad\u034f\u061c\u115f\u1160\u180e\u200b\u200c\u200d\u200e\u200f\u202a\u202e\u2060\u2064\u2066\u2069\u3164",
    *"\ufe0f\ufeff\uffa0\ufff9\ufffe\ufdd0\U0001ffff\ue000\U000f0000\U0010fffd\U000e0001\U000e0100",
]


@pytest.mark.parametrize("character", UNSEEN, ids=lambda character: f"U+{ord(character):04X}")
@pytest.mark.parametrize(
    "text", ["jo{}sé@example.com", "Jos{}é <jose@example.com>", "Jos{}é <jo{}@example.com>"]
)
def test_it_is_refused_by_its_name(character: str, text: str) -> None:
    with pytest.raises(AddressError, match=f"contains U\\+{ord(character):04X}, which nobody can see"):
        parse_mailbox(text.replace("{}", character))


@pytest.mark.parametrize(
    "name",
    [
        "क्\u200dष",  # behind a virama (RFC 5892 A.2)
        "क्\u200cष",
        "می\u200cخواهم",  # between Arabic letters (A.1)
        "Zoë Müller",
        "山田太郎",
        "Ａｎｎ",
    ],
)
def test_letters_keep_what_they_need(name: str) -> None:
    assert invisible(name) is None
    assert parse_mailbox(f"{name} <a@example.com>").name == name


@pytest.mark.parametrize("text", ["a\u200cb", "\u200cب", "ب\u200c", "ب\u200dب", "क\u200dष", "\u200d"])
def test_a_joiner_where_nothing_needs_it_is_refused(text: str) -> None:
    assert invisible(text) in ("U+200C", "U+200D")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("josé@example.com", unicodedata.normalize("NFD", "josé@example.com")),
        ("Bob@example.com", "bob@example.com"),
        ("straße@example.com", "STRASSE@example.com"),
        ("ａｎｎ@example.com", "ann@example.com"),
        ("ﬁn@example.com", "fin@example.com"),
        ("a\u200bnn@example.com", "ann@example.com"),
        ("Ω@example.com", "ω@example.com"),
    ],
)
def test_what_is_one_to_people_compares_equal(one: str, other: str) -> None:
    assert comparable(one) == comparable(other)


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=20))
def test_comparing_is_stable(text: str) -> None:
    assert comparable(comparable(text)) == comparable(text)
    assert invisible(comparable(text)) is None or invisible(text) is not None


def test_who_was_suppressed_in_one_spelling_gets_no_mail_in_another(tmp_path: Path) -> None:
    async def main() -> None:
        async with open_world(tmp_path / "data") as world:
            status, _, _ = await world.request(
                "POST", "/v1/suppressions", json={"recipient": "josé@example.com"}
            )
            assert status == 201
            written = unicodedata.normalize("NFD", "José@example.com")
            _, answer = await world.post_send(to=written, category="transactional")
            assert answer["accepted"] == []
            assert answer["rejected"][0]["recipient"] == written

    run(main)
