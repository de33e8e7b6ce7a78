"""Who has one copy of a mail cannot change it and replay it with our name: no signature survives (SPEC 3.2).

Checked with dkimpy and with mailauth, which share no code.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator

import pytest
from dkim.canonicalization import Relaxed
from hypothesis import given
from hypothesis import strategies as st

from relay.message import COMPOSITION, canonical
from relay.message.canonical import body_hash, relaxed_headers
from relay.message.signing import sign, verify
from tests.golden_messages.stories import ACCEPTED_AT_US, RECORDS, SIGNERS, STORIES, composed
from tests.mailauth import verify_all

#: SPEC 3.2.
PROTECTED = [
    "From", "To", "Cc", "Subject", "Date", "Message-ID", "Reply-To", "Sender", "MIME-Version", "Content-Type",
    "Content-Transfer-Encoding", "Content-Disposition", "In-Reply-To", "References", "Feedback-ID",
    "X-Atmos-Member-Did", "X-Atmos-Message",
]  # fmt: skip
UNSUBSCRIBE = ("List-Unsubscribe", "List-Unsubscribe-Post")

BULK, TRANSACTIONAL = "digest-3", "international"


def signed(story: str, composition: int = COMPOSITION) -> bytes:
    timestamp = ACCEPTED_AT_US // 1_000_000
    return sign(composed(STORIES[story]), SIGNERS, timestamp=timestamp, composition=composition)


def parts(message: bytes) -> tuple[list[bytes], bytes]:
    """The header fields, each with its folded lines and CRLF, and the rest from the empty line on."""
    head, _, body = message.partition(b"\r\n\r\n")
    fields: list[bytes] = []
    for line in (head + b"\r\n").splitlines(keepends=True):
        if line[:1] in b" \t":
            fields[-1] += line
        else:
            fields.append(line)
    return fields, b"\r\n" + body


def changed(story: str) -> Iterator[tuple[str, bytes]]:
    """What the change is, and the message with it."""
    fields, rest = parts(signed(story))
    names = [*PROTECTED, *UNSUBSCRIBE] if story == BULK else PROTECTED
    for name in names:
        added = f"{name}: mallory\r\n".encode()
        yield f"{name} added at the top", b"".join([added, *fields]) + rest
        yield f"{name} added at the end", b"".join([*fields, added]) + rest
        for index, field in enumerate(fields):
            if field.lower().startswith(name.lower().encode() + b":"):
                others = fields[:index] + fields[index + 1 :]
                yield f"{name} removed", b"".join(others) + rest
                yield f"{name} repeated", b"".join([*fields, field]) + rest
                yield f"{name} changed", b"".join([*others, field.replace(b"\r\n", b"x\r\n", 1)]) + rest
    yield "the body changed", b"".join(fields) + rest.replace(b"e", b"3", 1)
    yield "the body longer", b"".join(fields) + rest + b"more\r\n"
    yield "the body shorter", b"".join(fields) + rest[:-20] + b"\r\n"


@pytest.mark.parametrize("story", [BULK, TRANSACTIONAL])
def test_no_signature_survives_a_change_by_dkimpy(story: str) -> None:
    assert [verdict.valid for verdict in verify(signed(story), RECORDS.get)] == [True] * 4
    for what, message in changed(story):
        assert [verdict.valid for verdict in verify(message, RECORDS.get)] == [False] * 4, what


@pytest.mark.parametrize("story", [BULK, TRANSACTIONAL])
def test_no_signature_survives_a_change_by_mailauth(story: str) -> None:
    changes = dict(changed(story))
    original, *others = verify_all([signed(story), *changes.values()], RECORDS)
    assert [verdict.valid for verdict in original] == [True] * 4
    for what, verdicts in zip(changes, others, strict=True):
        assert [verdict.valid for verdict in verdicts] == [False] * 4, what


def test_a_list_may_add_its_own_unsubscribe_to_a_transactional_mail() -> None:
    message = b"List-Unsubscribe: <https://list.example/off>\r\n" + signed(TRANSACTIONAL)
    assert [verdict.valid for verdict in verify(message, RECORDS.get)] == [True] * 4


def test_white_space_that_relaxed_allows_changes_nothing() -> None:
    fields, rest = parts(signed(BULK))
    spread = [field.replace(b": ", b":  ", 1) if not field.startswith(b"DKIM") else field for field in fields]
    message = b"".join(spread) + rest + b"\r\n\r\n"
    assert [verdict.valid for verdict in verify(message, RECORDS.get)] == [True] * 4


def test_what_was_composed_by_the_first_rules_keeps_its_signatures() -> None:
    """One that was accepted before: its retries and its audit have to find the same bytes."""
    first = signed(BULK, composition=1)
    assert first != signed(BULK)
    assert [verdict.valid for verdict in verify(b"Subject: another\r\n" + first, RECORDS.get)] == [True] * 4


def test_by_the_second_rules_a_token_is_no_field_of_ours() -> None:
    second = sign(composed(STORIES["digest"]), SIGNERS, timestamp=1, composition=2)
    assert b"x-atmos-message" not in second
    message = b"X-Atmos-Message: 448-abcdefghijkl2345\r\n" + second
    assert [verdict.valid for verdict in verify(message, RECORDS.get)] == [True] * 4


# ------------------------------------------------------------------------------------------------ the canonical form


_OCTETS = st.lists(
    st.sampled_from([b" ", b"\t", b"\r\n", b"a", b"b ", b" \r\n", b"\n", b"\r", b"\v", b"\x00", b"\xff"]),
    max_size=60,
).map(b"".join)


@given(_OCTETS, st.sampled_from([1, 7, 16, canonical.PIECE_OCTETS]))
def test_a_body_is_hashed_as_dkimpy_does_it(body: bytes, piece_octets: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(canonical, "PIECE_OCTETS", piece_octets)
        expected = base64.b64encode(hashlib.sha256(Relaxed.canonicalize_body(body)).digest())
        assert body_hash(body) == expected


@given(_OCTETS, _OCTETS)
def test_headers_are_canonical_as_dkimpy_does_it(name: bytes, value: bytes) -> None:
    assert relaxed_headers([(name, value)]) == Relaxed.canonicalize_headers([(name, value)])


def test_the_largest_body_of_spaces_is_taken_in_pieces_of_bounded_size() -> None:
    body = (b" " * 990 + b"a\r\n") * 1040
    pieces = list(canonical._pieces(body))
    assert b"".join(pieces) == body
    assert max(map(len, pieces)) <= canonical.PIECE_OCTETS
