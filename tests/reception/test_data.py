"""Where the data end, and what the message is: against a reading line by line, and the vectors of SMTP smuggling."""

from __future__ import annotations

import hashlib
import re
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.reception.data import HEARD_OUT_TIMES, LINE_BYTES_MAX, DataReader
from relay.reception.replies import Reply

PIECES = st.sampled_from(
    [b"\r", b"\n", b".", b"\r\n", b"\r\n.", b"\r\n.\r\n", b"\n.\n", b"\r.\r", b"a", b"\0", b"x" * 700]
)


def read(
    octets: bytes, cuts: list[int], *, mends: bool, bytes_max: int = 5000
) -> tuple[DataReader, bytes | None]:
    """Feed it cut at these places; whoever is hopeless is not heard out."""
    reader = DataReader(bytes_max=bytes_max, mends_line_ends=mends)
    places = sorted({cut % (len(octets) + 1) for cut in cuts} | {0, len(octets)})
    for start, end in pairwise(places):
        behind = reader.feed(octets[start:end])
        if reader.is_hopeless:
            break
        if behind is not None:
            return reader, behind + octets[end:]
    return reader, None


def by_the_book(octets: bytes) -> tuple[bytes, bytes] | None:
    """RFC 5321 sections 4.1.1.4 and 4.5.2, a line at a time: the message and what stands behind it."""
    message = b""
    rest = octets
    while True:
        line, end, rest = rest.partition(b"\r\n")
        if not end:
            return None
        if line == b".":
            return message, rest
        message += line.removeprefix(b".") + end


@settings(max_examples=500)
@given(st.lists(PIECES, max_size=25).map(b"".join), st.lists(st.integers(0, 10_000), max_size=12))
def test_any_octets_cut_anywhere(octets: bytes, cuts: list[int]) -> None:
    reader, behind = read(octets, cuts, mends=True)
    expected = by_the_book(octets)
    assert (behind is None) == (expected is None)
    if expected is None or behind is None:
        return
    stored, rest = expected
    assert behind == rest
    mended = re.sub(rb"\r\n|\r|\n", b"\r\n", stored)
    is_bad = b"\0" in mended or max(map(len, mended.split(b"\r\n"))) > LINE_BYTES_MAX or len(mended) > 5000
    assert (reader.refusal is not None) == is_bad
    if not is_bad:
        message = reader.message()
        assert message.octets == mended
        assert message.normalised == (mended != stored)
        assert message.sha256 == hashlib.sha256(mended).digest()


@settings(max_examples=300)
@given(st.lists(PIECES, max_size=25).map(b"".join), st.lists(st.integers(0, 10_000), max_size=12))
def test_any_octets_where_line_ends_are_not_mended(octets: bytes, cuts: list[int]) -> None:
    reader, behind = read(octets, cuts, mends=False)
    if behind is not None and reader.refusal is None:
        expected = by_the_book(octets)
        assert expected is not None
        message = reader.message()
        assert (message.octets, behind) == expected
        assert not message.normalised
        assert re.search(rb"(?<!\r)\n|\r(?!\n)", message.octets) is None


# What servers have taken for the end of the data and others have not: SEC Consult's and the Postfix, Sendmail and Exim
# advisories' (CVE-2023-51764, 51765, 51766), aiosmtpd's (CVE-2024-27305), and a few of their relatives.
SMUGGLING = [
    b"\n.\n",
    b"\n.\r\n",
    b"\r\n.\n",
    b"\r.\r",
    b"\r.\r\n",
    b"\r\n.\r",
    b"\r.\n",
    b"\n.\r",
    b"\r\n\x00.\r\n",
    b"\r\n.\x00\r\n",
    b"\r\n\x00.\x00\r\n",
    b"\r\n. \r\n",
    b"\r\n.\t\r\n",
    b"\r\n .\r\n",
    b"\r\n..\r\n",
    b"\r\n.\r\r\n",
    b"\n\n.\r\n",
    b"\r\r.\r\n",
    b"\r\n.\x0b\r\n",
    b"\r\n\x2e\x0c\r\n",
    b"\r\n\xef\xbc\x8e\r\n",
    b"\x85.\x85",
    b"\xe2\x80\xa8.\xe2\x80\xa8",
]


@pytest.mark.parametrize("end", SMUGGLING, ids=repr)
@pytest.mark.parametrize("mends", [True, False], ids=["mended", "refused"])
@pytest.mark.parametrize("step", [1, 2, 3, 1000])
def test_nothing_is_smuggled(end: bytes, mends: bool, step: int) -> None:
    """What stands behind a false end is part of the message, or nothing at all."""
    smuggled = b"MAIL FROM:<admin@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\nSubject: forged\r\n"
    octets = b"Subject: x\r\n\r\nHello." + end + smuggled + b"\r\n.\r\nQUIT\r\n"
    reader, behind = read(octets, list(range(0, len(octets), step)), mends=mends)
    if reader.is_hopeless:
        assert not mends
        assert behind is None
    else:
        assert behind == b"QUIT\r\n"
        if reader.refusal is None:
            assert smuggled in reader.message().octets


# -- limits


def of_lines(octets: bytes, **limits: int) -> tuple[DataReader, bytes | None]:
    return read(octets + b".\r\n", [], mends=True, **limits)


def test_the_longest_line() -> None:
    for block in (1, 500, 999, 1000, 1001, 5000):
        longest = (b"x" * LINE_BYTES_MAX + b"\r\n") * 3
        cuts = list(range(0, len(longest), block))
        reader, behind = read(longest + b".\r\n", cuts, mends=True)
        assert (reader.refusal, behind) == (None, b"")
        for before in (b"", b"a\r\n", longest[:1000]):
            too_long = before + b"x" * (LINE_BYTES_MAX + 1) + b"\r\n"
            reader, behind = read(too_long + b".\r\n", cuts, mends=True)
            assert behind == b""
            text = f"octet {len(before)} of the message: a line is over 998 octets"
            assert reader.refusal == Reply(554, "5.6.0", text)


def test_the_largest_message() -> None:
    reader, behind = of_lines(b"x" * 98 + b"\r\n", bytes_max=100)
    assert (reader.refusal, behind) == (None, b"")
    reader, behind = of_lines(b"x" * 99 + b"\r\n", bytes_max=100)
    assert reader.refusal is not None
    assert (reader.refusal.code, behind) == (552, b"")


def test_nobody_is_heard_out_for_ever() -> None:
    reader = DataReader(bytes_max=100, mends_line_ends=True)
    for _ in range(HEARD_OUT_TIMES * 100):
        assert reader.feed(b"x\r\n") is None
        if reader.is_hopeless:
            return
    raise AssertionError("whatever came was read")


def test_the_first_refusal_stands() -> None:
    reader = DataReader(bytes_max=100, mends_line_ends=True)
    reader.feed(b"\0\r\n")
    reader.refuse(Reply(452, "4.3.1", "no room"))
    assert reader.refusal is not None
    assert reader.refusal.code == 554
    with pytest.raises(AssertionError):
        reader.message()
