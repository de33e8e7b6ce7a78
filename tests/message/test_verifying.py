"""Whose signatures verify: what is good in every form, and each thing that makes a signature none."""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Callable
from functools import cache
from typing import Any

import dkim
import nacl.signing
import pytest
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from dkim.canonicalization import Simple
from hypothesis import given
from hypothesis import strategies as st

from relay.mail_reading import SIGNATURES_MAX
from relay.message import verifying
from relay.message.canonical import simple_body
from relay.message.verifying import HEADER_OCTETS_MAX, PublicKey, signed_by

NOW = 2_000_000_000
HEAD = b"From: Ann <ann@one.example>\r\nTo: b@two.example\r\nSubject: a \t report\r\n\r\n"
MAIL = HEAD + b"Hello  \r\n\r\n  there\r\n\r\n\r\n"


@cache
def rsa_key(bits: int) -> tuple[bytes, bytes]:
    """In PEM, and what stands in p=."""
    key = rsa.generate_private_key(65537, bits)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return private, base64.b64encode(public)


def record(more: bytes = b"", bits: int = 2048) -> bytes:
    return b"v=DKIM1; k=rsa; %b p=%b" % (more, rsa_key(bits)[1])


def sign(mail: bytes = MAIL, domain: bytes = b"one.example", bits: int = 2048, **options: Any) -> bytes:
    return bytes(dkim.sign(mail, b"s1", domain, rsa_key(bits)[0], **options)) + mail


def by(mail: bytes, key: bytes | None = None, domain: str = "one.example", now: int = NOW) -> tuple[str, ...]:
    return signed_by(mail, [PublicKey(domain, "s1", record() if key is None else key)], now=now)


@pytest.mark.parametrize("body", ["simple", "relaxed"])
@pytest.mark.parametrize("header", ["simple", "relaxed"])
@pytest.mark.parametrize("mail", [MAIL, HEAD, HEAD + b"\r\n\r\n", HEAD + b"no end", HEAD[:-2]], ids=repr)
def test_what_is_signed_in_any_form_verifies(header: str, body: str, mail: bytes) -> None:
    signed = sign(mail, canonicalize=(header.encode(), body.encode()))
    assert by(signed) == ("one.example",)
    if mail.endswith(b"there\r\n\r\n\r\n"):
        assert by(signed.replace(b"Hello", b"Hullo")) == ()
        assert by(signed.replace(b"a \t report", b"another")) == ()


def test_ed25519_verifies() -> None:
    key = nacl.signing.SigningKey(b"\x01" * 32)
    mail = dkim.sign(
        MAIL, b"s1", b"one.example", base64.b64encode(bytes(key)), signature_algorithm=b"ed25519-sha256"
    )
    public = b"v=DKIM1; k=ed25519; p=" + base64.b64encode(bytes(key.verify_key))
    assert by(mail + MAIL, public) == ("one.example",)
    assert by(mail + MAIL.replace(b"Hello", b"Hullo"), public) == ()
    # A key of another kind than the signature says.
    assert by(mail + MAIL, record()) == ()
    assert by(sign(), public) == ()


@pytest.mark.parametrize(
    "key",
    [
        b"",
        b"p=",
        b"nonsense",
        b"v=DKIM2; p=" + rsa_key(2048)[1],
        b"k=rsa; p=!!!!",
        b"k=rsa; p=AAAA",
        b"k=rsa; p=" + rsa_key(2048)[1][:100],
        b"k=ed25519; p=AAAA",
        b"k=dsa; p=" + rsa_key(2048)[1],
        record(b"t=y;"),
        record(b"t=s:y;"),
        record(b"s=tlsrpt;"),
        record(b"s=other;"),
        record(b"h=sha1;"),
        b"\xff\x00" * 100,
    ],
)
def test_a_key_that_is_none_or_not_for_this_verifies_nothing(key: bytes) -> None:
    assert by(sign(), key) == ()


@pytest.mark.parametrize(
    "more", [b"t=s;", b"s=*;", b"s=email;", b"s=other:email;", b"h=sha1:sha256;", b"n=x;"]
)
def test_a_key_that_is_for_this_verifies(more: bytes) -> None:
    assert by(sign(), record(more)) == ("one.example",)


def test_a_key_for_the_domain_itself_is_for_none_below() -> None:
    signed = sign(identity=b"@below.one.example")
    assert by(signed) == ("one.example",)
    assert by(signed, record(b"t=s;")) == ()


def test_a_body_that_is_signed_in_part_is_not_signed() -> None:
    signed = sign(length=True)
    assert dkim.verify(signed, dnsfunc=lambda *_, **__: record())
    assert by(signed) == ()


def test_sha1_is_nothing() -> None:
    signed = sign(signature_algorithm=b"rsa-sha1")
    assert dkim.verify(signed, dnsfunc=lambda *_, **__: record())
    assert by(signed) == ()


def sign_with_rsa(hashed: bytes) -> bytes:
    key: Any = load_pem_private_key(rsa_key(2048)[0], None)
    signature: bytes = key.sign(hashed, padding.PKCS1v15(), SHA256())
    return signature


def signed_with(tags: bytes, sign_octets: Callable[[bytes], bytes] = sign_with_rsa) -> bytes:
    """A signature that has these tags besides, and is right."""
    head, _, body = MAIL.partition(b"\r\n\r\n")
    bh = base64.b64encode(hashlib.sha256(body.rstrip(b"\r\n") + b"\r\n").digest())
    unsigned = b"v=1; a=rsa-sha256; c=simple/simple; d=one.example; s=s1; bh=%b; %b; b=" % (bh, tags)
    names = [value.strip() for value in tags.split(b"h=")[1].split(b";")[0].split(b":")]
    fields = {line.partition(b":")[0].lower(): line for line in head.split(b"\r\n")}
    hashed = b"".join(fields[name] + b"\r\n" for name in names)
    hashed += b"DKIM-Signature: " + unsigned
    return b"DKIM-Signature: " + unsigned + base64.b64encode(sign_octets(hashed)) + b"\r\n" + MAIL


def test_a_short_key_is_none() -> None:
    """1024 bits are the least that is believed, and what nobody makes any more is still published."""
    for bits, expected in ((384, ()), (512, ("one.example",))):
        p, q = (_prime(first << (bits - 3)) for first in (5, 7))
        key = rsa.RSAPublicNumbers(65537, p * q).public_key()
        secret = pow(65537, -1, (p - 1) * (q - 1))
        public = base64.b64encode(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))

        def sign_raw(hashed: bytes, octets: int = bits // 4, n: int = p * q, d: int = secret) -> bytes:
            digest = bytes.fromhex("3031300d060960864801650304020105000420") + hashlib.sha256(hashed).digest()
            padded = b"\0\1" + b"\xff" * (octets - 3 - len(digest)) + b"\0" + digest
            return pow(int.from_bytes(padded, "big"), d, n).to_bytes(octets, "big")

        assert key.key_size == 2 * bits
        assert by(signed_with(b"h=from", sign_raw), b"p=" + public) == expected


def _prime(start: int) -> int:
    number = start | 1
    while (number - 1) % 65537 == 0 or pow(2, number - 1, number) != 1:
        number += 2
    return number


def test_one_that_has_expired_is_none() -> None:
    made = b"h=from:to; t=%d; x=%d".__mod__
    past = int(time.time()) - 100
    assert by(signed_with(b"h=from:to")) == ("one.example",)
    assert by(signed_with(made((past, past + 50))), now=past + 50) == ("one.example",)
    assert by(signed_with(made((past, past + 50))), now=past + 51) == ()
    assert by(signed_with(b"h=from:to; x=soon")) == ()


def test_one_that_does_not_cover_from_is_none() -> None:
    assert by(signed_with(b"h=to:subject")) == ()


def test_a_second_from_makes_it_none() -> None:
    assert by(b"From: mallory@three.example\r\n" + sign()) == ()


def test_only_the_keys_that_are_given_are_asked_for() -> None:
    signed = sign(sign(), domain=b"TWO.example")
    assert by(signed) == ("one.example",)
    assert by(signed, domain="two.example") == ("two.example",)
    both = [PublicKey("One.Example", "S1", record()), PublicKey("two.example", "s1", record())]
    assert signed_by(signed, both, now=NOW) == ("two.example", "one.example")
    assert signed_by(signed, [PublicKey("one.example", "s2", record())], now=NOW) == ()
    assert signed_by(signed, [], now=NOW) == ()


def test_no_more_than_a_few_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    signed = sign()
    false = signed[: signed.index(b"From: Ann")].replace(b"bh=", b"bh=AAAA")
    assert by(false * (SIGNATURES_MAX - 1) + signed) == ("one.example",)
    assert by(false * SIGNATURES_MAX + signed) == ()


def test_a_head_that_is_far_too_long_is_not_read() -> None:
    assert by(sign(b"X: " + b"x" * HEADER_OCTETS_MAX + b"\r\n" + MAIL)) == ()
    assert by(sign(b"X: " + b"x" * (HEADER_OCTETS_MAX // 2) + b"\r\n" + MAIL)) == ("one.example",)


SIGNED = sign()


@given(st.data())
def test_whatever_is_changed_nothing_is_raised(data: st.DataObject) -> None:
    mail = bytearray(SIGNED)
    for _ in range(data.draw(st.integers(1, 5))):
        at = data.draw(st.integers(0, len(mail) - 1))
        mail[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    assert by(bytes(mail)) in ((), ("one.example",))
    assert by(bytes(mail), data.draw(st.binary(max_size=200))) == ()


@given(st.binary(max_size=300))
def test_any_octets_are_signed_by_nobody(octets: bytes) -> None:
    assert by(octets) == ()
    assert by(b"DKIM-Signature: v=1; a=rsa-sha256; d=one.example; s=s1; " + octets) == ()


@given(st.binary(max_size=40) | st.text("\r\n \ta", max_size=12).map(str.encode))
def test_the_simple_form_is_dkimpys(body: bytes) -> None:
    assert b"".join(simple_body(body)) == Simple.canonicalize_body(body)


def test_a_large_mail_is_hashed_once_for_each_form(monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[bytes] = []

    def counted(body: bytes) -> Any:
        hashed.append(body)
        return simple_body(body)

    monkeypatch.setitem(verifying._FORMS, b"simple", counted)
    signed = sign()
    both = [PublicKey(f"{name}.example", "s1", record()) for name in ("one", "two", "three")]
    for name in (b"two", b"three"):
        signed = sign(signed, domain=name + b".example")
    assert len(signed_by(signed, both, now=NOW)) == 3
    assert len(hashed) == 1
