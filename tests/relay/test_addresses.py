"""Addresses and DIDs: what is taken, what is refused and in which words; that normal forms are stable."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from relay.addresses import (
    AddressError,
    Mailbox,
    is_host_name,
    parse_domain,
    parse_mailbox,
    with_u_labels,
)
from relay.characters import FORBIDDEN
from relay.dids import is_valid_did
from tests.mail_strategies import mailboxes

LABEL_63 = "a" * 63
DOMAIN_189 = f"{'b' * 61}.{LABEL_63}.{LABEL_63}"


@pytest.mark.parametrize(
    ("text", "mailbox"),
    [
        ("jane@member.example", ("", "jane", "member.example")),
        ("Jane@Member.EXAMPLE", ("", "Jane", "member.example")),
        ("  jane@member.example\t", ("", "jane", "member.example")),
        ("<jane@member.example>", ("", "jane", "member.example")),
        ("Jane <jane@member.example>", ("Jane", "jane", "member.example")),
        ("J. R. Doe <jane@member.example>", ("J. R. Doe", "jane", "member.example")),
        ("Jane<jane@member.example>", ("Jane", "jane", "member.example")),
        ("Jane \t  Doe < jane@member.example >", ("Jane Doe", "jane", "member.example")),
        ('"Doe, Jane" <jane@member.example>', ("Doe, Jane", "jane", "member.example")),
        ('"a \\"b\\" \\\\ <c@d.e>" <jane@member.example>', ('a "b" \\ <c@d.e>', "jane", "member.example")),
        ('Mr "X, Y" Z <jane@member.example>', ("Mr X, Y Z", "jane", "member.example")),
        ('"" <jane@member.example>', ("", "jane", "member.example")),
        ("Zoë 🙂 <zoë@member.example>", ("Zoë 🙂", "zoë", "member.example")),
        ("o'neil+tag/x=1@member.example", ("", "o'neil+tag/x=1", "member.example")),
        ("a@bücher.example", ("", "a", "xn--bcher-kva.example")),
        ("a@BÜCHER。example", ("", "a", "xn--bcher-kva.example")),
        ("a@faß.example", ("", "a", "xn--fa-hia.example")),
        ("a@XN--BCHER-KVA.example", ("", "a", "xn--bcher-kva.example")),
        ("a@1.2.example", ("", "a", "1.2.example")),
        ("a" * 64 + "@member.example", ("", "a" * 64, "member.example")),
        ("é" * 32 + "@member.example", ("", "é" * 32, "member.example")),
        (f"{'a' * 64}@{DOMAIN_189}", ("", "a" * 64, DOMAIN_189)),
        ("x" * 128 + " <a@b.example>", ("x" * 128, "a", "b.example")),
    ],
)
def test_accepted(text: str, mailbox: tuple[str, str, str]) -> None:
    assert parse_mailbox(text) == mailbox


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "empty"),
        ("jane", "no @"),
        ("@member.example", "nothing stands before"),
        ("jane@", "nothing stands after"),
        ("jane@localhost", "one label"),
        ("jane@member.example.", "ends with a dot"),
        ("jane@[192.0.2.1]", "literal"),
        ("jane@192.0.2.1", "number"),
        ("jane@member..example", "host name"),
        ("jane@-member.example", "host name"),
        ("jane@mem_ber.example", "host name"),
        (f"jane@{'a' * 64}.example", "host name"),
        ("jane@❤.example", "international"),
        (".jane@member.example", "dot"),
        ("jane.@member.example", "dot"),
        ("ja..ne@member.example", "dot"),
        ('"ja ne"@member.example', "quoted"),
        ("ja ne@member.example", "not allowed"),
        ("ja\xa0ne@member.example", "not allowed"),
        ("ja\u3000ne@member.example", "not allowed"),
        ("a@b.example, c@d.example", "several"),
        ("a@b.example; c@d.example", "several"),
        ("group: a@b.example;", "not allowed"),
        ("@relay.example:a@b.example", "not allowed"),
        ("Doe, Jane <jane@member.example>", 'contains , outside double quotes; write "Doe, Jo"'),
        ("Jane (work) <jane@member.example>", "contains ("),
        ('Jane" <jane@member.example>', "outside double quotes"),
        ("a@b.example <jane@member.example>", "contains @"),
        ("<<jane@member.example>>", "contains <"),
        ("jane@member.example>", "without a <"),
        ("<jane@member.example", "not allowed"),
        ("a" * 65 + "@member.example", "64 octets"),
        ("é" * 33 + "@member.example", "64 octets"),
        (f"{'a' * 64}@b{DOMAIN_189}", "254 octets"),
        ("x" * 129 + " <a@b.example>", "128 characters"),
        ("x" * 100_000, "too long"),
        ("a@" + "b." * 100_000 + "example", "too long"),
    ],
)
def test_refused_with_words_that_help(text: str, complaint: str) -> None:
    with pytest.raises(AddressError) as caught:
        parse_mailbox(text)
    assert complaint in str(caught.value)
    assert len(str(caught.value)) < 400


CONTROLS = [*map(chr, range(0x20)), *map(chr, range(0x7F, 0xA0)), "\u2028", "\u2029", "\ud800", "\udfff"]


@pytest.mark.parametrize("form", ["ja{}ne@member.example", "jane@mem{}ber.example", '"J{}D" <j@d.example>'])
@pytest.mark.parametrize("control", [control for control in CONTROLS if control != "\t"])
def test_no_control_character_is_taken_anywhere(form: str, control: str) -> None:
    with pytest.raises(AddressError):
        parse_mailbox(form.format(control))


@pytest.mark.parametrize("tail", ["\n", "\r\n", "\0", "\r\nBcc: x@y.example"])
def test_a_line_end_after_a_good_address_is_not_overlooked(tail: str) -> None:
    for good in ("jane@member.example", "Jane <jane@member.example>"):
        with pytest.raises(AddressError):
            parse_mailbox(good + tail)


@settings(derandomize=True)
@given(st.text(st.characters(codec=None), max_size=60) | st.text('a.@<> "\\,\r\né', max_size=40))
@example("\ud800@a.example")
def test_any_text_is_a_mailbox_or_an_address_error(text: str) -> None:
    try:
        mailbox = parse_mailbox(text)
    except AddressError:
        return
    assert FORBIDDEN.search(mailbox.name + mailbox.address) is None
    assert "\t" not in mailbox.name + mailbox.address
    assert mailbox.domain.isascii()
    assert mailbox.domain == mailbox.domain.lower()
    assert len(mailbox.address.encode()) <= 254


@settings(derandomize=True)
@given(mailboxes())
def test_the_normal_form_is_its_own_normal_form(mailbox: Mailbox) -> None:
    assert parse_mailbox(mailbox.address) == mailbox._replace(name="")
    assert Mailbox.recorded(mailbox.name, mailbox.address) == mailbox
    assert (
        parse_mailbox(mailbox.address.replace(mailbox.domain, mailbox.domain.upper())).address
        == mailbox.address
    )
    assert mailbox.smtputf8 == (not mailbox.address.isascii())


def test_domains() -> None:
    assert parse_domain("Bücher.Example") == "xn--bcher-kva.example"
    for bad in ("", "example", "a b.example", "member.example.", "member.example\n", "\ud800.example"):
        with pytest.raises(AddressError):
            parse_domain(bad)
    assert is_host_name("Member.example")
    assert not is_host_name("bücher.example")


@pytest.mark.parametrize(
    "did", ["did:plc:" + "abcdefghijklmnopqrstuvwx", "did:plc:" + "234567" * 4, "did:web:member.example"]
)
def test_valid_dids(did: str) -> None:
    assert is_valid_did(did)


@pytest.mark.parametrize(
    "did",
    [
        "",
        "did:plc:",
        "did:plc:" + "a" * 23,
        "did:plc:" + "a" * 25,
        "did:plc:" + "A" * 24,
        "did:plc:" + "1" * 24,
        "did:plc:" + "a" * 24 + "\n",
        "did:web:",
        "did:web:localhost",
        "did:web:Member.example",
        "did:web:member.example:path",
        "did:web:member.example%3A8443",
        "did:web:member.example\n",
        "did:web:192.0.2.1",
        "did:web:bücher.example",
        "did:key:z6Mk",
        "DID:plc:" + "a" * 24,
    ],
)
def test_invalid_dids(did: str) -> None:
    assert not is_valid_did(did)


@pytest.mark.parametrize(
    ("address", "as_read"),
    [
        ("anna@xn--mnchen-3ya.example", "anna@münchen.example"),
        ("anna@XN--MNCHEN-3YA.XN--P1AI", "anna@MüNCHEN.рф"),
        ("xn--mnchen-3ya@example.com", "xn--mnchen-3ya@example.com"),
        ("anna@xn--99999999999.example", "anna@xn--99999999999.example"),
        ("anna@xn--é.example", "anna@xn--é.example"),
        ("anna@münchen.example", "anna@münchen.example"),
        ("", ""),
    ],
)
def test_a_domain_as_it_is_read(address: str, as_read: str) -> None:
    assert with_u_labels(address) == as_read


@given(st.text(max_size=80))
def test_any_text_is_taken(text: str) -> None:
    for address in (text, f"anna@xn--{text}.example"):
        with_u_labels(address).encode("utf-8", "surrogatepass")
