"""What a field says: one mailbox, or none; and a subject as a person reads it."""

from __future__ import annotations

import email.policy
from email.parser import BytesParser

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from relay.addresses import AddressError, Mailbox
from relay.message import field_values
from relay.message.compose import Draft, shared_fields
from relay.message.field_values import readable, single_mailbox
from relay.message.fields_of import Field
from tests import mail_strategies


@pytest.mark.parametrize(
    ("text", "name", "address"),
    [
        ("you@yourdomain.com", "", "you@yourdomain.com"),
        ("<you@yourdomain.com>", "", "you@yourdomain.com"),
        ("You <you@YourDomain.com>", "You", "you@yourdomain.com"),
        ('"Doe, \\"Jo\\"" <you@yourdomain.com>', 'Doe, "Jo"', "you@yourdomain.com"),
        ("root (Cron (a\\)b) Daemon)", None, None),
        ("you@yourdomain.com (Cron (x) Daemon)", "Cron (x) Daemon", "you@yourdomain.com"),
        ("(a) You (b) <you@yourdomain.com> (c)", "You", "you@yourdomain.com"),
        ("=?utf-8?B?SsO2cmc=?= =?utf-8?q?_M?= <you@yourdomain.com>", "Jörg M", "you@yourdomain.com"),
        ("John Q. Public <you@yourdomain.com>", "John Q. Public", "you@yourdomain.com"),
        ("you@yourdomain.com <You@yourdomain.com>", "you@yourdomain.com", "You@yourdomain.com"),
        ("Jörg <jörg@bücher.example>", "Jörg", "jörg@xn--bcher-kva.example"),
        # Tricks, and what no mail may say.
        ("bank@bank.example <you@yourdomain.com>", None, None),
        ("<bank@bank.example> <you@yourdomain.com>", None, None),
        ("you@yourdomain.com, bank@bank.example", None, None),
        ("you@yourdomain.com <bank@bank.example>, x", None, None),
        ('"x" <you@yourdomain.com> "y"', None, None),
        ("<@hop.example:you@yourdomain.com>", None, None),
        ("all: you@yourdomain.com;", None, None),
        ("undisclosed-recipients:;", None, None),
        ('"quoted local"@yourdomain.com', None, None),
        ("you@[192.0.2.1]", None, None),
        ("you@yourdomain.com>", None, None),
        ("you@yourdomain.com)", None, None),
        ('"you <you@yourdomain.com>', None, None),
        ("<>", None, None),
        ("", None, None),
        ("x" * 5000 + " <you@yourdomain.com>", None, None),
    ],
)
def test_a_from_names_one_mailbox(text: str, name: str | None, address: str | None) -> None:
    if address is None:
        with pytest.raises(AddressError):
            single_mailbox(text)
    else:
        found = single_mailbox(text)
        assert (found.name, found.address) == (name, address)


@given(mail_strategies.mailboxes())
def test_what_this_relay_writes_it_reads(mailbox: Mailbox) -> None:
    draft = Draft(sender=mailbox, subject="")
    _, value = shared_fields(draft).sender
    found = single_mailbox(Field(b"from", value, 0, 0).text)
    assert found.address == mailbox.address


@given(st.text(st.sampled_from(list('ab@.<>,;:()"\\ =?')), max_size=30))
def test_where_one_mailbox_is_found_the_email_package_finds_no_other(text: str) -> None:
    try:
        found = single_mailbox(text)
    except AddressError:
        return
    parsed = BytesParser(policy=email.policy.default).parsebytes(b"From: " + text.encode() + b"\r\n\r\n")[
        "From"
    ]
    assume(not parsed.defects)
    assert [address.addr_spec for address in parsed.addresses] == [found.address]


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("plain", "plain"),
        ("a =?utf-8?q?b=C3=BC?= c", "a bü c"),
        ("=?utf-8?q?a?= =?utf-8?q?b?=", "ab"),
        ("=?utf-8?q?a?= \t =?utf-8?b?Yg==?=x", "abx"),
        ("=?utf-8?q?=C3?= =?UTF-8?q?=BC?=", "\ufffd\ufffd"),
        ("=?utf-8?q?=C3?= =?utf-8?b?vA?=", "ü"),
        ("=?ISO-8859-1*de?q?=FC_=5F?=", "ü _"),
        ("=?iso-2022-jp?B?GyRCRnxLXBsoQg==?=", "日本"),
        ("=?zip?q?x?= =?utf-9?q?y?=", "=?zip?q?x?= =?utf-9?q?y?="),
        ("=?unicode_escape?q?x?=", "=?unicode_escape?q?x?="),
        # Names that look like charsets, of which there are none.
        ("=?iso-8859-12?q?x?=", "=?iso-8859-12?q?x?="),
        ("=?ISO8859-0?q?x?= =?iso-8859-99?b?eA==?=", "=?ISO8859-0?q?x?= =?iso-8859-99?b?eA==?="),
        ("=?windows-1259?q?x?= =?cp1259?q?y?=", "=?windows-1259?q?x?= =?cp1259?q?y?="),
        ("=?utf-8?b?a?=", "=?utf-8?b?a?="),
        ("=?utf-8?q?a=00=0Ab?=", "a\ufffd\ufffdb"),
        ("=?utf-8?q?a?", "=?utf-8?q?a?"),
        ("bell \x07", "bell \ufffd"),
    ],
)
def test_a_subject_as_it_is_read(written: str, read: str) -> None:
    assert readable(written) == read


@given(mail_strategies.lines)
def test_a_subject_that_this_relay_writes_it_reads(subject: str) -> None:
    _, value = shared_fields(Draft(sender=single_mailbox("a@b.example"), subject=subject)).subject
    assert readable(Field(b"subject", value, 0, 0).text) == subject.strip(" \t") or subject != subject.strip(
        " \t"
    )


@given(st.text(max_size=200))
def test_reading_never_fails(text: str) -> None:
    readable(text)


@given(
    st.from_regex(field_values._is_charset.__self__, fullmatch=True),
    st.sampled_from("qb"),
    st.text(st.sampled_from("aA=1fF_+/"), max_size=20),
)
def test_whatever_charset_an_encoded_word_names_it_is_read(charset: str, encoding: str, text: str) -> None:
    assert readable(f"=?{charset}?{encoding}?{text}?=") is not None
