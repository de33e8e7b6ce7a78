"""Properties of everything that reads what strangers, or broken disks, have written; each takes any octets.

A property is a function of `data: bytes` that returns where the input was read or refused as its reader promises, and
raises otherwise. `tests/campaigns/test_inputs.py` runs each for a moment with hypothesis; for a campaign, or for one
input again:

    python -m tests.campaigns.inputs --seconds 60 [--only records]
    python -m tests.campaigns.inputs --only records --again FILE

`tests.campaigns.coverage` runs the same properties with atheris, which looks for inputs that reach new code.
"""

from __future__ import annotations

import argparse
import struct
import time
from collections.abc import Callable
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from relay.addresses import AddressError, parse_domain, parse_mailbox
from relay.codec import UnknownEventError, decode
from relay.delivery.reply_reader import RemoteProtocolError
from relay.message.headers import HeaderError, check_headers, unsubscribe_https_url
from relay.message.tokens import BounceAddresses, Unsubscribe, UnsubscribeTokens
from relay.refusals import Refusal
from relay.reports.read import read_mail
from relay.requests import parse_send
from spool.record import (
    CHAIN_START,
    HEADER_BYTES,
    KIND_AT,
    KIND_FOOTER,
    DamagedError,
    Entry,
    crc32c,
    decode_header,
    decode_record,
    make_record,
    padded,
)
from spool.segment import (
    FOOTER_BYTES,
    SEGMENT_HEADER_BYTES,
    SegmentHeader,
    decode_segment_header,
    encode_segment_header,
    scan_segment,
)
from tests.campaigns.dns_inputs import ANSWERS, TXT_ANSWERS, _is_text, dns_answers, txt_answers
from tests.reports.bounds import assert_within_bounds
from tests.world import smtp_clients
from tests.world.smtp_talk import talk

BOUNCES = BounceAddresses(b"v" * 32, "relay.example")
TOKENS = UnsubscribeTokens(b"u" * 64)
UNSUBSCRIBE = Unsubscribe("did:plc:abc", 7, "friend@example.com")
#: Of `sealed_segments` and of the seeds.
SEGMENT = SegmentHeader(1, 1, b"salt" * 4, CHAIN_START)
SEGMENT_SEED = SEGMENT.seed


def records(data: bytes) -> None:
    """A record out of any octets is damaged, cut short, or has the lengths that its octets allow."""
    if len(data) < HEADER_BYTES:
        return
    try:
        header = decode_header(data, 0, SEGMENT_SEED)
        record = decode_record(data, 0, SEGMENT_SEED, 1, 0)
    except DamagedError:
        return
    assert (header.size <= len(data)) if record is not None else (header.size > len(data))
    assert record is None or record.size == header.size
    assert record == decode_record(data, 0, SEGMENT_SEED, 1, 0, header)


def segments(data: bytes) -> None:
    """A segment out of any octets is scanned to a verdict, or its header is damaged."""
    try:
        if len(data) >= SEGMENT_HEADER_BYTES:
            decode_segment_header(data[:SEGMENT_HEADER_BYTES], 1)
        scan_segment(data, 1)
    except DamagedError:
        return


def sealed_segments(data: bytes) -> None:
    """The same behind right checksums, which guesses do not get past: what else a record and a footer say is checked.

    The octets are those behind a segment's header. A whole record is yielded once, in sequence, and at its place.
    """
    segment = encode_segment_header(SEGMENT) + _with_checksums(data, SEGMENT_SEED)
    scan = scan_segment(segment, 1)
    assert SEGMENT_HEADER_BYTES <= scan.end.offset <= len(segment)
    assert (scan.fault is None) == (scan.end.offset + (FOOTER_BYTES if scan.footer else 0) == len(segment))
    if scan.footer is not None:
        assert scan.footer.last_seq == scan.end.next_seq - 1
        assert scan.footer.end_offset == scan.end.offset


def _with_checksums(data: bytes, seed: int) -> bytes:
    """The octets with the checksums of headers, parts and footers put right, as far as they can be read."""
    out, at = bytearray(data), 0
    while at + FOOTER_BYTES <= len(out):
        is_footer = out[at + KIND_AT] == KIND_FOOTER
        size = FOOTER_BYTES if is_footer else HEADER_BYTES
        if at + size > len(out):
            break
        end = at + size
        if not is_footer:
            # Lengths beyond the octets there are stay so in the low bits: a record cut short is a case, not the rule.
            skeleton, payload = (
                int.from_bytes(out[at + offset : at + offset + 4], "little") for offset in (8, 12)
            )
            for length, crc_at in ((skeleton, 16), (payload, 20)):
                part = bytes(out[end : end + padded(length)])
                struct.pack_into("<I", out, at + crc_at, crc32c(seed, part))
                end += padded(length)
        struct.pack_into("<I", out, at, crc32c(seed, bytes(out[at + 4 : at + size])))
        at = end
    return bytes(out)


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
    opened, message_id = TOKENS.open(text), BOUNCES.parse(text)
    # The seeds of a campaign are the relay's own; whatever else opens must be the same but for case.
    assert opened is None or TOKENS.seal(opened) == text
    assert message_id is None or BOUNCES.make(message_id) == text.lower()
    assert BOUNCES.parse(f"bounces+{text}@relay.example") is None


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


def commands(data: bytes) -> None:
    """A client that says any octets, cut by their first, gets replies; what it is let in with is said by the second."""
    if len(data) < 2:
        return
    step = data[0] % 64 + 1
    behaving = smtp_clients.BEHAVING[data[1] // 2 % len(smtp_clients.BEHAVING)]
    rules = smtp_clients.INBOUND if data[1] % 2 else smtp_clients.SUBMISSION
    said = [data[start : start + step] for start in range(2, len(data), step)]
    smtp_clients.talk([*behaving, *said], rules)


def reports(data: bytes) -> None:
    """Any octets are a mail that is read, within the bounds of a reading, whatever its line ends are."""
    reading = read_mail(data)
    assert_within_bounds(reading)
    if b"\r" not in data:
        assert read_mail(data.replace(b"\n", b"\r\n")) == reading
        assert read_mail(data.replace(b"\n", b"\r")) == reading


_SKELETON = b"\xa2dtypejsend.queuedav\x01"
PROPERTIES: dict[str, Callable[[bytes], None]] = {
    function.__name__: function
    for function in (
        records,
        segments,
        sealed_segments,
        events,
        tokens,
        headers,
        reports,
        requests,
        replies,
        commands,
        dns_answers,
        txt_answers,
    )
}
#: Octets of which some mean something to somebody.
WORDS = (b"\xa2", b"dtype", b"av", b"\x01", b"\xd8\x1c", b"\xd8\x1d\x00", b"\x9f", b"\xff",
    b"\xbf", b"\xc1", b"\xfb", b"\xc2", b"\x5b", b"\xc0", b"\xd8\x23", b"a(", b"\xd9\x01\x00", b"\x81",
    b"lmessage.sent",
    b"250 ", b"250-", b"421 ", b"\r\n", b"\r", b"\n", b'{"from":', b'"', b"@", b"<", b">", b"a@b.example", b"\0",
    b"MAIL FROM:<", b"RCPT TO:<", b"DATA\r\n", b"AUTH PLAIN ", b"\r\n.\r\n", b"\n.\n",
    b"Bcc: ", b"=?utf-8?q?", b"\xe2\x80\xae")  # fmt: skip
INPUTS = st.one_of(
    st.binary(max_size=400),
    st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace")),
    st.lists(st.sampled_from(WORDS)).map(b"".join),
)


INPUTS_OF = {"dns_answers": ANSWERS, "txt_answers": TXT_ANSWERS | ANSWERS}


@st.composite
def spoilt(draw: st.DrawFn, seeds: list[bytes]) -> bytes:
    """A seed with a few octets lost, changed or put in."""
    data = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(data)))
        octets = draw(st.binary(max_size=3) | st.sampled_from(WORDS))
        data[at : at + draw(st.sampled_from((len(octets), 0, 1, 8)))] = octets
    return bytes(data)


def run_property(name: str, examples: int, *, derandomize: bool) -> None:
    """Raises what the property raises, after hypothesis has made the input small."""
    from tests.campaigns.corpus import seeds  # which need what is above

    of_property = INPUTS_OF.get(name, INPUTS) | spoilt(list(seeds(name)))

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=derandomize,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
    )
    @given(of_property)
    def check(data: bytes) -> None:
        PROPERTIES[name](data)

    check()


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.campaigns.inputs", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--only", choices=list(PROPERTIES))
    parser.add_argument("--again", type=Path, metavar="FILE", help="run the property of --only on this input")
    options = parser.parse_args()
    if options.again:
        PROPERTIES[options.only](options.again.read_bytes())
        return
    names = [options.only] if options.only else list(PROPERTIES)
    for name in names:
        end, examples = time.monotonic() + options.seconds / len(names), 0
        while time.monotonic() < end:
            run_property(name, 500, derandomize=False)
            examples += 500
        print(f"{examples:10,}  {name}", flush=True)


if __name__ == "__main__":
    main()
