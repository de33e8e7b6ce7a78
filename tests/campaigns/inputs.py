"""Properties of everything that reads what strangers, or broken disks, have written; each takes any octets.

A property is a function of `data: bytes` that returns where the input was read or refused as its reader promises, and
raises otherwise. `tests/test_inputs.py` runs each for a moment with hypothesis; for a campaign:

    python -m tests.campaigns.inputs --seconds 60 [--only records] [--atheris]

With hypothesis by default; with `--atheris`, where it is installed (`pip install atheris`), by coverage, one property.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from relay.addresses import AddressError, parse_domain, parse_mailbox
from relay.codec import UnknownEventError, decode
from relay.delivery.smtp import RemoteProtocolError
from relay.headers import HeaderError, check_headers, unsubscribe_https_url
from relay.refusals import Refusal
from relay.requests import parse_send
from relay.tokens import BounceAddresses, UnsubscribeTokens
from spool.record import (
    CHAIN_START,
    HEADER_BYTES,
    DamagedError,
    Entry,
    decode_body,
    decode_header,
    make_record,
)
from spool.segment import SEGMENT_HEADER_BYTES, decode_segment_header, scan_segment
from tests.test_smtp_client import talk

_BOUNCES = BounceAddresses(b"v" * 32, "relay.example")
_TOKENS = UnsubscribeTokens(b"u" * 64)
_SEED = 7


def records(data: bytes) -> None:
    """A record out of any octets is damaged, or has the lengths that its octets allow."""
    if len(data) < HEADER_BYTES:
        return
    try:
        header = decode_header(data, 0, _SEED)
        record = decode_body(header, data, 0, _SEED, segment=1, offset=0)
    except DamagedError:
        return
    assert record.size <= len(data)


def segments(data: bytes) -> None:
    """A segment out of any octets is scanned to a verdict, or its header is damaged."""
    try:
        if len(data) >= SEGMENT_HEADER_BYTES:
            decode_segment_header(data[:SEGMENT_HEADER_BYTES], 1)
        scan_segment(data, 1)
    except DamagedError:
        return


def events(data: bytes) -> None:
    """Any octets as skeleton and as payload are an event, or an UnknownEventError."""
    half = len(data) // 2
    for entry in (Entry(data), Entry(data[:half], data[half:]), Entry(_SKELETON, data)):
        record = make_record(
            entry,
            seq=1,
            time_us=1,
            batch_seq=1,
            batch_end=True,
            previous_chain=CHAIN_START,
            segment=1,
            offset=0,
        )
        try:
            decode(record)
        except UnknownEventError:
            continue


def tokens(data: bytes) -> None:
    """Nothing that this relay did not make opens."""
    text = data.decode("latin-1")
    assert _TOKENS.open(text) is None
    assert _BOUNCES.parse(text) is None
    assert _BOUNCES.parse(f"bounces+{text}@relay.example") is None


def headers(data: bytes) -> None:
    """What is accepted as a header, a name or an address holds no line end and no NUL."""
    text = (
        data.decode("utf-8", "surrogatepass" if b"\xed" in data else "replace")
        if _is_text(data)
        else repr(data)
    )
    name, _, value = text.partition(":")
    try:
        for accepted in check_headers([(name, value)], subject=text):
            assert not {"\r", "\n", "\0"} & set("".join(accepted))
    except HeaderError:
        pass
    unsubscribe_https_url(text)
    for parse in (parse_mailbox, parse_domain):
        try:
            accepted_text = str(parse(text))
        except AddressError:
            continue
        assert not {"\r", "\n", "\0"} & set(accepted_text)


def requests(data: bytes) -> None:
    """Any octets as the body of a send are a request or a refusal."""
    try:
        parse_send(data)
    except Refusal:
        return


def replies(data: bytes) -> None:
    """A server that says any octets, cut by their first, is heard out or told off."""
    step = (data[0] if data else 0) % 64 + 1
    said = [data[start : start + step] for start in range(1, len(data), step)]
    try:
        talk(said)
    except RemoteProtocolError:
        return


def _is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


_SKELETON = b"\xa2dtypejsend.queuedav\x01"
PROPERTIES: dict[str, Callable[[bytes], None]] = {
    function.__name__: function
    for function in (records, segments, events, tokens, headers, requests, replies)
}
#: Octets of which some mean something to somebody.
INPUTS = st.one_of(
    st.binary(max_size=400),
    st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace")),
    st.lists(st.sampled_from((b"\xa2", b"dtype", b"av", b"\x01", b"\xd8\x1c", b"\xd8\x1d\x00", b"\x9f", b"\xff",
        b"\xbf", b"\xc1", b"\xfb", b"\xc2", b"\x5b", b"\xc0", b"\xd8\x23", b"a(", b"\xd9\x01\x00", b"\x81",
        b"lmessage.sent",
        b"250 ", b"250-", b"421 ", b"\r\n", b"\r", b"\n", b'{"from":', b'"', b"@", b"<", b">", b"a@b.example", b"\0",
        b"Bcc: ", b"=?utf-8?q?", b"\xe2\x80\xae"))).map(b"".join),
)  # fmt: skip


def run_property(name: str, examples: int, *, derandomize: bool) -> None:
    """Raises what the property raises, after hypothesis has made the input small."""

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=derandomize,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
    )
    @given(INPUTS)
    def check(data: bytes) -> None:
        PROPERTIES[name](data)

    check()


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.campaigns.inputs", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--only", choices=list(PROPERTIES))
    parser.add_argument("--atheris", action="store_true")
    options = parser.parse_args()
    names = [options.only] if options.only else list(PROPERTIES)
    if options.atheris:
        import atheris

        atheris.instrument_all()
        atheris.Setup([sys.argv[0], f"-max_total_time={round(options.seconds)}"], PROPERTIES[names[0]])
        atheris.Fuzz()
        return
    for name in names:
        end, examples = time.monotonic() + options.seconds / len(names), 0
        while time.monotonic() < end:
            run_property(name, 500, derandomize=False)
            examples += 500
        print(f"{examples:10,}  {name}", flush=True)


if __name__ == "__main__":
    main()
