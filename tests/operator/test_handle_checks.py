"""What is a handle, and what a network that lies, fails and does not answer says of whose it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from relay.addresses import AddressError
from relay.handles import first_handle, parse_handle
from relay.internet.https import FetchLimits
from relay.operator.handle_checks import look_at
from tests.world.handles import (
    DID,
    HANDLE,
    OTHER_DID,
    OTHER_HANDLE,
    PUBLIC,
    WEB_DID,
    Atproto,
    document_page,
    drip,
    with_handles,
)
from tests.world.https import Stream

# ------------------------------------------------------------------------------------------------ the word


@pytest.mark.parametrize(
    "text", [HANDLE, HANDLE.upper(), "xn--bcher-kva.com", "a.b.c.d.test", "8.cn", "a--b.co"]
)
def test_a_handle_is_a_host_name_in_lower_case(text: str) -> None:
    assert parse_handle(text) == text.lower()


@pytest.mark.parametrize(
    "text",
    ["", "mira", "mira.", ".mira.com", "mira..com", "mira_x.com", "-mira.com", "mira.com/x", "mira.com:443"]
    + [
        "bücher.com",
        "mira.com\n",
        "mira.com\0",
        " mira.com",
        "@mira.com",
        "at://mira.com",
        "did:web:mira.com",
    ]
    + [
        "1.2.3.4",
        "mira.4th",
        "[::1]",
        "mira.com@evil.com",
        "x" * 64 + ".com",
        "a." * 130 + "com",
        "\u212a.com",
    ]
    + [
        f"mira.{name}"
        for name in ("local", "LOCALHOST", "invalid", "example", "onion", "arpa", "internal", "alt")
    ],
)
def test_what_is_no_handle(text: str) -> None:
    with pytest.raises(AddressError):
        parse_handle(text)


@pytest.mark.parametrize(
    ("names", "handle"),
    [
        ([f"at://{HANDLE}"], HANDLE),
        ([f"at://{HANDLE.upper()}"], HANDLE),
        (["https://mira.com", "mailto:x@y.z", f"at://{HANDLE}", f"at://{OTHER_HANDLE}"], HANDLE),
        # The first decides, and nothing behind it.
        (["at://not a handle", f"at://{HANDLE}"], None),
        ([f"at://{HANDLE}/profile"], None),
        ([f"at://@{HANDLE}"], None),
        ([f"AT://{HANDLE}"], None),
        ([f" at://{HANDLE}"], None),
        ([1, None, [], {}, f"at://{HANDLE}"], HANDLE),
        (["x"] * 1_000_000 + [f"at://{HANDLE}"], None),
        (f"at://{HANDLE}", None),
        ({"at": HANDLE}, None),
        ([], None),
        (None, None),
    ],
    ids=range(14),
)
def test_a_documents_handle_is_its_first(names: Any, handle: str | None) -> None:
    assert first_handle({"alsoKnownAs": names}) == handle
    assert first_handle({}) is None


# ------------------------------------------------------------------------------------------------ one look


async def _hang_up(stream: Stream) -> None:
    await stream.aclose()


async def _nonsense(stream: Stream) -> None:
    await stream.send_all(b"\0\xff" * 100_000)


FORWARD: dict[str, tuple[Callable[[Atproto], None], bool | None]] = {
    "a TXT record": (lambda at: at.name(HANDLE, DID), True),
    "a TXT record in pieces": (
        lambda at: at.dns.txt.update({f"_atproto.{HANDLE}": [(b"di", b"d=did:plc:", b"a" * 24)]}),
        True,
    ),
    "beside others": (
        lambda at: at.dns.txt.update(
            {f"_atproto.{HANDLE}": [(b"v=spf1 -all",), (f"did={DID}".encode(),), (b"\xff\0",)]}
        ),
        True,
    ),
    "twice": (lambda at: at.name(HANDLE, DID, DID), True),
    "two DIDs": (lambda at: at.name(HANDLE, DID, OTHER_DID), False),
    "another DID": (lambda at: at.name(HANDLE, OTHER_DID), False),
    "a DID and more": (lambda at: at.name(HANDLE, f"{DID} or so"), False),
    "octets": (lambda at: at.dns.txt.update({f"_atproto.{HANDLE}": [(b"did=\xff\x1b[2J" * 900,)]}), False),
    "another DID, and a file": (
        lambda at: (at.name(HANDLE, OTHER_DID), at.file(HANDLE, (200, DID.encode())))[0],
        False,
    ),
    "nothing": (lambda at: None, False),
    "a file": (lambda at: at.file(HANDLE, (200, DID.encode())), True),
    "a file with a line end": (lambda at: at.file(HANDLE, (200, f"\n {DID}\r\n".encode())), True),
    "another's file": (lambda at: at.file(HANDLE, (200, OTHER_DID.encode())), False),
    "two DIDs in a file": (lambda at: at.file(HANDLE, (200, f"{DID}\n{OTHER_DID}".encode())), False),
    "a page": (lambda at: at.file(HANDLE, (200, b"<!doctype html>")), False),
    "a long file": (
        lambda at: at.file(HANDLE, (200, DID.encode() + b" " * FetchLimits().body_bytes_max)),
        False,
    ),
    "no file": (lambda at: at.file(HANDLE, (404, b"")), False),
    "a file that is gone": (lambda at: at.file(HANDLE, (410, DID.encode())), False),
    "a redirect": (lambda at: at.file(HANDLE, (301, b"")), None),
    "a broken server": (lambda at: at.file(HANDLE, (500, b"")), None),
    "a guarded file": (lambda at: at.file(HANDLE, (403, b"")), None),
    "a server that drips": (lambda at: at.file(HANDLE, drip), None),
    "a server that hangs up": (lambda at: at.file(HANDLE, _hang_up), None),
    "a server that babbles": (lambda at: at.file(HANDLE, _nonsense), None),
    "a private address": (lambda at: at.file(HANDLE, (200, DID.encode()), "10.0.0.1"), None),
    "one that is private": (lambda at: at.file(HANDLE, (200, DID.encode()), PUBLIC, "127.0.0.1"), None),
    "the cloud's metadata": (lambda at: at.file(HANDLE, (200, DID.encode()), "169.254.169.254"), None),
    "a DNS that fails": (
        lambda at: (at.name(HANDLE, DID), at.dns.broken.update({f"_atproto.{HANDLE}", HANDLE}))[0],
        None,
    ),
    "a TXT lookup that fails, and a file": (
        lambda at: (at.dns.broken.add(f"_atproto.{HANDLE}"), at.file(HANDLE, (200, DID.encode())))[1],
        True,
    ),
    "a TXT lookup that fails, and another's file": (
        lambda at: (at.dns.broken.add(f"_atproto.{HANDLE}"), at.file(HANDLE, (200, b"x")))[1],
        None,
    ),
}


@pytest.mark.parametrize("case", FORWARD)
def test_what_a_handle_says(tmp_path: Path, case: str) -> None:
    async def story(atproto: Atproto) -> None:
        prepare, expected = FORWARD[case]
        prepare(atproto)
        atproto.document(DID, [f"at://{HANDLE}"])
        look = await look_at(atproto.core, DID, HANDLE)
        assert look.document.ok is True
        assert look.handle.ok is expected, look
        assert look.ok is expected
        assert look.failed == (["handle"] if expected is False else [])
        assert bool(look.why) == (expected is not True)
        # What a stranger wrote is repeated short, and moves no cursor.
        assert len(look.why) < 400
        assert look.why.isprintable()
        assert {address for address, _ in atproto.connected} <= {PUBLIC}

    with_handles(tmp_path, story)


DOCUMENTS: dict[str, tuple[Any, bool | None]] = {
    "names it": ([f"at://{HANDLE}"], True),
    "names it second": ([f"at://{OTHER_HANDLE}", f"at://{HANDLE}"], False),
    "names none": ([], False),
    "gone": ((404, b""), False),
    "deactivated": ((410, b""), False),
    "broken": ((500, b""), None),
    "a redirect": ((302, b""), None),
    "a tower": ((200, b"[" * 50_000), None),
    "another's": ((200, b'{"id": "did:plc:bbbbbbbbbbbbbbbbbbbbbbbb"}'), None),
}


@pytest.mark.parametrize("case", DOCUMENTS)
def test_what_a_document_says(tmp_path: Path, case: str) -> None:
    async def story(atproto: Atproto) -> None:
        given, expected = DOCUMENTS[case]
        atproto.name(HANDLE, DID)
        if isinstance(given, list):
            atproto.document(DID, given)
        else:
            atproto.pages[document_page(DID)] = given
        look = await look_at(atproto.core, DID, HANDLE)
        assert (look.handle.ok, look.document.ok, look.ok) == (True, expected, expected)
        assert look.failed == (["document"] if expected is False else [])

    with_handles(tmp_path, story)


def test_a_did_web_on_a_private_host_is_asked_nothing(tmp_path: Path) -> None:
    async def story(atproto: Atproto) -> None:
        atproto.publish(WEB_DID, HANDLE)
        atproto.dns.addresses["pds.yourdomain.com"] = ["192.168.0.1"]
        assert (await look_at(atproto.core, WEB_DID, HANDLE)).ok is None
        assert atproto.connected == []
        atproto.dns.addresses["pds.yourdomain.com"] = [PUBLIC]
        assert (await look_at(atproto.core, WEB_DID, HANDLE)).ok is True

    with_handles(tmp_path, story)
