"""Signs messages with DKIM (RFC 6376; Ed25519: RFC 8463), and verifies them for audits.

Contract: `sign` is a pure function. Its time is an argument, and both algorithms are deterministic
(PKCS #1 v1.5 and Ed25519), so signing the same message again gives the same bytes, which is how a repeated
attempt sends what the first one sent. What is signed cannot be changed, added to, or given a second From.

The work is divided between two libraries. dkimpy says what is hashed: its choice of header instances (RFC
6376 §5.4.2), and its relaxed canonical form, which `canonical` makes in linear time. `cryptography` performs
the private-key operation, which takes dkimpy 7 ms. Two more things of dkimpy's are not used: its `sign`, which
parses the key each time, reads the clock, and hashes headers and body again for every signature; and its
`fold`, which divides a domain name of more than 70 octets and so makes a signature that nobody can verify.

What the signatures of one message share is hashed once: the body (RFC 6376 §3.7 hashes it by itself) and
the signed headers, which come before the signature's own header in the hash.
"""

import base64
import binascii
import hashlib
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

import dkim

from relay.message.bodies import Header, header_line
from relay.message.canonical import body_hash, relaxed_headers
from relay.message.compose import Message
from relay.message.signer import Signer
from relay.message.whole import WholeMessage

# Signed whether they are there or not: a name in h= without its header forbids adding one (RFC 6376
# §5.4.2). From is named once more than it occurs, so that a second From breaks the signature (§8.15).
_ALWAYS_SIGNED: Final = (
    b"from",
    b"from",
    b"to",
    b"subject",
    b"date",
    b"message-id",
    b"reply-to",
    b"mime-version",
    b"content-type",
    b"content-transfer-encoding",
    b"in-reply-to",
    b"references",
    b"feedback-id",
)
# RFC 8058 §4 demands that both are signed. Only where they are there: a mailing list may add its own to a
# transactional message without breaking our signature.
_SIGNED_IF_PRESENT: Final = (b"list-unsubscribe", b"list-unsubscribe-post")

# Composition 2: each is named once more than it occurs, so that nobody who has a copy of the mail can add
# another, or one where there was none, and replay it with our name (RFC 6376 §8.15).
_SIGNED_SINCE_2: Final = (
    b"from",
    b"to",
    b"cc",
    b"subject",
    b"date",
    b"message-id",
    b"reply-to",
    b"sender",
    b"mime-version",
    b"content-type",
    b"content-transfer-encoding",
    b"content-disposition",
    b"in-reply-to",
    b"references",
    b"feedback-id",
    b"x-atmos-member-did",
)
_SIGNED_SINCE_3: Final = (*_SIGNED_SINCE_2, b"x-atmos-message")

_LINE_MAX: Final = 76

#: What depends on the names of a message's fields, and on who signs, is found once: of so many lists of names, and so
#: many signatures. A member chooses some of the names, so each has a bound of a megabyte or two.
NAMES_KEPT_MAX: Final = 64
SIGNATURES_KEPT_MAX: Final = 1024


class DkimVerdict(NamedTuple):
    """What became of one signature."""

    d: str
    s: str
    valid: bool


def sign(
    message: Message | WholeMessage,
    signers: Sequence[Signer],
    *,
    timestamp: int,
    bh: bytes | None = None,
    composition: int = 1,
) -> bytes:
    """Return the whole message with one DKIM-Signature for each signer on top, in their order.

    `timestamp` (t=, seconds) is when the message was accepted. `bh` is its `body_hash`, if that is known.
    `composition`: by the rules of which the message was composed; each signs by its own h=, for ever.
    """
    if bh is None:
        bh = body_hash(message.body)
    headers = relaxed_headers(message.headers)
    signed, chosen = _chosen(tuple(name for name, _ in headers), composition)
    common = hashlib.sha256(b"".join([b"%b:%b" % headers[index] for index in chosen]))
    signatures = [_signature(signer, signed, bh, timestamp, common.copy()) for signer in signers]
    return b"".join([*map(header_line, signatures), message.as_bytes()])


def verify(message: bytes, lookup_txt: Callable[[str], str | None]) -> list[DkimVerdict]:
    """Return a verdict on each DKIM-Signature, topmost first, by dkimpy, with the records of `lookup_txt`.

    `lookup_txt` gets a name without its final dot and answers with the joined strings of the TXT record.
    Damaged signatures and records are invalid; they do not raise. Whether the time of a signature (t=) has come is not
    asked: of a mail that is scheduled it has not, and dkimpy knows only the time that it is now.
    """

    def dnsfunc(name: bytes, timeout: int = 0) -> bytes | None:
        record = lookup_txt(name.decode("ascii", "replace").rstrip("."))
        return None if record is None else record.encode()

    verdicts: list[DkimVerdict] = []
    try:
        found = [header for header in dkim.DKIM(message).headers if header[0].lower() == b"dkim-signature"]
    except dkim.DKIMException:
        return verdicts
    for signature in found:
        fields: dict[bytes, bytes] = {}
        try:
            fields = dkim.parse_tag_value(signature[1])
            dkim.validate_signature_fields({tag: value for tag, value in fields.items() if tag != b"t"})
            signed = [name.strip().lower() for name in fields[b"h"].split(b":")]
            # A DKIM object remembers the signature it looked at last, so each signature gets a fresh one.
            valid = dkim.DKIM(message).verify_sig(fields, signed, signature, dnsfunc)
        except (dkim.DKIMException, dkim.InvalidTagValueList, binascii.Error):
            valid = False
        verdicts.append(DkimVerdict(_tag(fields, b"d"), _tag(fields, b"s"), bool(valid)))
    return verdicts


@lru_cache(NAMES_KEPT_MAX)
def _chosen(present: tuple[bytes, ...], composition: int) -> tuple[tuple[bytes, ...], Sequence[int]]:
    """By the names of a message's header fields: the names of h=, and which fields are hashed, in that order."""
    signed = _signed_fields(present, composition)
    numbered = [(name, index) for index, name in enumerate(present)]
    return signed, [index for _, index in dkim.select_headers(numbered, signed)]


def _signed_fields(present: Sequence[bytes], composition: int) -> tuple[bytes, ...]:
    """What h= names."""
    # A list may add its own List-Unsubscribe to a transactional mail, which has none.
    pair = tuple(name for name in _SIGNED_IF_PRESENT if name in present)
    if composition == 1:
        return (*_ALWAYS_SIGNED, *pair)
    names = (*(_SIGNED_SINCE_2 if composition == 2 else _SIGNED_SINCE_3), *pair)
    return tuple(name for name in names for _ in range(present.count(name) + 1))


def _signature(
    signer: Signer, signed: tuple[bytes, ...], bh: bytes, timestamp: int, hasher: "hashlib._Hash"
) -> Header:
    """Return a DKIM-Signature header. `hasher` has taken in the signed headers (RFC 6376 §3.7)."""
    t = b"%d" % timestamp
    as_sent, canonical = _around(signer.algorithm, signer.domain, signer.selector, signed, len(t), len(bh))
    # The signature's own header goes in last, with an empty b= and without its CRLF.
    hasher.update(canonical.with_values(t, bh))
    unsigned = as_sent.with_values(t, bh)
    signature = base64.b64encode(signer.sign_digest(hasher.digest()))
    first = _LINE_MAX - len(" b=")
    lines = [signature[:first]]
    lines += [
        signature[start : start + _LINE_MAX - 1] for start in range(first, len(signature), _LINE_MAX - 1)
    ]
    return b"DKIM-Signature", unsigned + b"\r\n ".join(lines)


class _Around(NamedTuple):
    """What stands around t= and bh= in a DKIM-Signature header whose b= is empty."""

    before_t: bytes
    before_bh: bytes
    behind: bytes

    def with_values(self, t: bytes, bh: bytes) -> bytes:
        return b"".join((self.before_t, t, self.before_bh, bh, self.behind))


@lru_cache(SIGNATURES_KEPT_MAX)
def _around(
    algorithm: str, domain: str, selector: str, signed: tuple[bytes, ...], t_octets: int, bh_octets: int
) -> tuple[_Around, _Around]:
    """The header as it is sent, without its name; and in canonical form, with it. Where it is folded depends on the
    lengths of both values, and on nothing else of them: so all messages with the same fields share it."""
    # Octets that stand in no header.
    t, bh = b"\0" * t_octets, b"\1" * bh_octets
    tags = [
        b"v=1;",
        b" a=%b;" % algorithm.encode(),
        b" c=relaxed/relaxed;",
        b" d=%b;" % domain.encode(),
        b" s=%b;" % selector.encode(),
        b" t=%b;" % t,
        b" h=" + signed[0],
        *(b":" + name for name in signed[1:-1]),
        b":%b;" % signed[-1],
        b" bh=%b;" % bh,
    ]
    unsigned = _fold_tags(tags) + b"\r\n b="
    ((name, canonical),) = relaxed_headers([(b"DKIM-Signature", unsigned)])
    as_hashed = b"%b:%b" % (name, canonical.removesuffix(b"\r\n"))

    def around(header: bytes) -> _Around:
        before_t, _, rest = header.partition(t)
        return _Around(before_t, *rest.split(bh))

    return around(unsigned), around(as_hashed)


def _fold_tags(tags: list[bytes]) -> bytes:
    """Join tags, folding only where RFC 6376 §3.5 allows white space: before a tag or a colon of h=."""
    folded: list[bytes] = []
    column = len("DKIM-Signature: ")
    for tag in tags:
        if column + len(tag) > _LINE_MAX:
            folded.append(b"\r\n" if tag.startswith(b" ") else b"\r\n ")
            column = 1
        folded.append(tag)
        column += len(tag)
    return b"".join(folded)


def _tag(fields: dict[bytes, bytes], name: bytes) -> str:
    return fields.get(name, b"").decode("ascii", "replace")
