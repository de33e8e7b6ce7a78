"""Whose DKIM signatures on a mail of somebody else's verify (RFC 6376, RFC 8463, RFC 8301), with keys that are given.

Contract: `signed_by` never raises, whatever the mail and the records of the keys are, and says only what holds. A
signature counts if it verifies and if who relies on it can rely on all of the mail:

- it covers the whole body (no l=, RFC 6376 section 8.2) and From, and has not expired (x=);
- it is by RSA with SHA-256 and 1024 bits or more, or by Ed25519; SHA-1 is nothing any more (RFC 8301);
- its key is for mail (s=), for that algorithm (k=, h=), for that domain itself where it says so (t=s), and not on trial
  (t=y, section 3.6.1): a mail signed for a trial is to be treated as if it were not signed.

dkimpy says what stands in a signature, which headers are hashed, and whether the hash is what was signed. Bodies are
hashed here, once for all signatures of a form: dkimpy takes a second for a large one, and again for each. Its time
still depends on what a stranger wrote, so this is called where time is bounded (`relay.processes`).
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import dkim
import msgspec

from relay.mail_reading import SIGNATURES_MAX
from relay.message.canonical import relaxed_body, simple_body

#: What has more before its body is no mail that anybody signs.
HEADER_OCTETS_MAX: Final = 256 * 1024

_Body = dict[bytes, Callable[[bytes], Iterable[bytes]]]
_FORMS: Final[_Body] = {b"simple": simple_body, b"relaxed": relaxed_body}
_KEY_TYPES: Final = {b"rsa-sha256": b"rsa", b"ed25519-sha256": b"ed25519"}


class PublicKey(msgspec.Struct, frozen=True):
    """Of which domain, by which name, and the TXT record that was found there."""

    domain: str
    selector: str
    record: bytes


def signed_by(mail: bytes, keys: Sequence[PublicKey], *, now: int) -> tuple[str, ...]:
    """The domains, of those of the keys, that have signed this mail (with CRLF), each once. `now`: in seconds.

    The first SIGNATURES_MAX signatures by these keys are looked at.
    """
    end = mail.find(b"\r\n\r\n")
    head, body = (mail, b"") if end < 0 else (mail[: end + 2], mail[end + 4 :])
    if not keys or len(head) > HEADER_OCTETS_MAX:
        return ()
    try:
        headers = dkim.rfc822_parse(head)[0]
    except Exception:  # noqa: BLE001 - dkimpy has its own, and lets others through
        return ()
    records = {(key.domain.lower(), key.selector.lower()): key.record for key in keys}
    bodies = _BodyHashes(body)
    found: list[str] = []
    looked_at = 0
    for index in range(sum(name.lower() == b"dkim-signature" for name, _ in headers)):
        verifier = dkim.DKIM()
        verifier.headers = headers
        try:
            name, record = _key_of(verifier, index, records)
            if record is None or name in found:
                continue
            looked_at += 1
            if _verifies(verifier, index, record, bodies, now):
                found.append(name)
        except Exception:  # noqa: BLE001
            # dkimpy and the libraries below it raise whatever they stumble over, their own or not. What cannot be read
            # is not signed.
            continue
        finally:
            del verifier
        if looked_at == SIGNATURES_MAX:
            break
    return tuple(found)


def _key_of(verifier: Any, index: int, records: dict[tuple[str, str], bytes]) -> tuple[str, bytes | None]:
    """The signature's domain, and the record of its key; None: it is not asked for. Raises what dkimpy raises."""
    signature = dkim.parse_tag_value(_signature_headers(verifier)[index][1])
    domain, selector = (signature[tag].decode("ascii").lower() for tag in (b"d", b"s"))
    return domain, records.get((domain, selector))


def _verifies(verifier: Any, index: int, record: bytes, bodies: _BodyHashes, now: int) -> bool:
    """Raises what dkimpy raises."""
    prepared = verifier.verify_headerprep(index)
    if not prepared:
        return False
    signature, signed_headers, signature_headers = prepared
    tags = dkim.parse_tag_value(record)
    if not _is_to_be_relied_on(signature, signed_headers, now) or not _is_good_for(tags, signature):
        return False
    if bodies.of(signature.get(b"c", b"simple/simple")) != base64.b64decode(
        b"".join(signature.pop(b"bh").split())
    ):
        return False

    def key(_: bytes, timeout: int = 0) -> bytes:
        # Of the rest dkimpy has its own opinion: it knows one service in s= only.
        return b"k=%b; p=%b" % (_KEY_TYPES[signature[b"a"]], tags[b"p"])

    # Without its bh=, the body's hash is not asked for again.
    return bool(verifier.verify_sig(signature, signed_headers, signature_headers[index], key))


def _is_to_be_relied_on(signature: dict[bytes, bytes], signed_headers: list[bytes], now: int) -> bool:
    return (
        b"l" not in signature
        and signature[b"a"] in _KEY_TYPES
        and b"from" in signed_headers
        and int(signature.get(b"x", now)) >= now
    )


def _is_good_for(tags: dict[bytes, bytes], signature: dict[bytes, bytes]) -> bool:
    """Whether the key with these tags may sign this."""
    flags = _listed(tags.get(b"t", b""))
    identity = signature.get(b"i", b"@" + signature[b"d"]).rpartition(b"@")[2]
    return (
        tags.get(b"v", b"DKIM1") == b"DKIM1"
        and tags.get(b"k", b"rsa") == _KEY_TYPES[signature[b"a"]]
        and bool({b"*", b"email"} & _listed(tags.get(b"s", b"*")))
        and b"sha256" in _listed(tags.get(b"h", b"sha256"))
        and b"y" not in flags
        and (b"s" not in flags or identity.lower() == signature[b"d"].lower())
    )


def _listed(value: bytes) -> set[bytes]:
    return {item.strip().lower() for item in value.split(b":")}


def _signature_headers(verifier: Any) -> list[tuple[bytes, bytes]]:
    return [header for header in verifier.headers if header[0].lower() == b"dkim-signature"]


class _BodyHashes:
    """Of one body, each form hashed when it is first wanted."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._hashes: dict[bytes, bytes] = {}

    def of(self, canonicalization: bytes) -> bytes | None:
        """SHA-256, by a c= tag; None: there is no such form."""
        form = canonicalization.partition(b"/")[2] or b"simple"
        if form not in _FORMS:
            return None
        if form not in self._hashes:
            hasher = hashlib.sha256()
            for piece in _FORMS[form](self._body):
                hasher.update(piece)
            self._hashes[form] = hasher.digest()
        return self._hashes[form]
