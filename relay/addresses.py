"""Reads the mailboxes that members write, and gives each one normal form.

Contract: `parse_mailbox` takes ``address`` or ``Name <address>`` and returns a `Mailbox` whose
`address` is equal for equal mailboxes, or raises `AddressError` with a sentence that tells the member
what is wrong and what to do. Nothing it accepts can break out of a header line or an SMTP command: no
control characters, no line ends, no lone surrogates, no source routes, groups or lists.

What is accepted is the mailbox of RFC 5322 §3.4 without its obsolete and its unwise parts:

* local part: a dot-atom (§3.2.3), with the UTF-8 of RFC 6532 §3.2, at most 64 octets, kept as given
  (only the receiving host may say whether case matters, RFC 5321 §2.4). No quoted local part.
* domain: a host name of two labels or more (RFC 1123 §2.1), kept lower-case with A-labels (RFC 5890,
  mapped by UTS #46, non-transitional). No address literal, no trailing dot.
* local part, ``@`` and domain together: at most 254 octets (RFC 5321 §4.5.3.1.3, less its brackets).
* display name: atoms or quoted strings, at most 128 characters, white space collapsed.
"""

import re
from typing import Final, NamedTuple

import idna

from relay.characters import FORBIDDEN, invisible

LOCAL_OCTETS_MAX: Final = 64
ADDRESS_OCTETS_MAX: Final = 254
DOMAIN_OCTETS_MAX: Final = 253
LABEL_CHARACTERS_MAX: Final = 63
NAME_CHARACTERS_MAX: Final = 128
# A name with every character escaped, an address and room for white space: what is longer is no mailbox,
# and is not worth a regular expression's time.
INPUT_CHARACTERS_MAX: Final = 1024

_ATEXT: Final = r"A-Za-z0-9!#$%&'*+/=?^_`{|}~\-"
_LABEL: Final = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
# The last label of a host name is never all digits (RFC 3696 §2), which keeps out bare IPv4 addresses.
_DOMAIN: Final = rf"(?:{_LABEL}\.)+(?![0-9]+\Z){_LABEL}"
_is_ascii_domain: Final = re.compile(_DOMAIN).fullmatch
_match_plain: Final = re.compile(rf"([{_ATEXT}]+(?:\.[{_ATEXT}]+)*)@({_DOMAIN})").fullmatch
_UTEXT: Final = rf"[{_ATEXT}\u00a1-\U0010ffff]"
_is_dot_atom: Final = re.compile(rf"{_UTEXT}+(?:\.{_UTEXT}+)*").fullmatch
# The words of a display name: quoted string, atom, white space, or what may not stand there. A full stop
# outside quotes is obsolete (RFC 5322 §4.1), but "J. Doe" is everywhere.
_QUOTED: Final = r'"((?:[^"\\]|\\.)*)"'
_ATOM: Final = r'([^ \t()<>\[\]:;@\\,"]+)'
_find_words: Final = re.compile(rf"{_QUOTED}|{_ATOM}|([ \t]+)|(.)").finditer
_unescape: Final = re.compile(r"\\(.)", re.DOTALL).sub


#: What is said where one address is expected.
SEVERAL_ADDRESSES: Final = "this looks like several addresses; give one"


class AddressError(ValueError):
    """What is wrong with an address, as one sentence for the member who sent it."""


class Mailbox(NamedTuple):
    """A display name (may be empty), a local part as given, and a domain in its normal form."""

    name: str
    local: str
    domain: str

    @classmethod
    def recorded(cls, name: str, address: str) -> "Mailbox":
        """Return the mailbox of which `name` and `address` (a normal form) were recorded. Checks nothing."""
        local, _, domain = address.rpartition("@")
        return cls(name, local, domain)

    @property
    def address(self) -> str:
        """The normal form: equal for two mailboxes exactly when they are one recipient."""
        return f"{self.local}@{self.domain}"

    @property
    def smtputf8(self) -> bool:
        """Whether a receiver must offer SMTPUTF8 (RFC 6531); a domain never needs it, having A-labels."""
        return not self.local.isascii()


def parse_mailbox(text: str) -> Mailbox:
    """Return the one mailbox that `text` is; raises `AddressError`."""
    plain = _match_plain(text) if len(text) <= ADDRESS_OCTETS_MAX else None
    if plain is not None:
        # A bare ASCII address, which is nearly every one, is done after this single match.
        name, local, domain = "", plain[1], plain[2].lower()
    else:
        name, address = _split_name(text)
        local, domain = _split_address(address)
    local_octets = len(local.encode())
    if local_octets > LOCAL_OCTETS_MAX:
        raise AddressError(f"the part before the @ is longer than {LOCAL_OCTETS_MAX} octets")
    if len(domain) > DOMAIN_OCTETS_MAX or local_octets + 1 + len(domain) > ADDRESS_OCTETS_MAX:
        raise AddressError(f"the address is longer than {ADDRESS_OCTETS_MAX} octets")
    return Mailbox(name, local, domain)


def parse_address(text: str) -> str:
    """Return the normal form of a bare address; raises `AddressError`."""
    if "<" in text:
        raise AddressError("expected the bare address, without a name and <>")
    return parse_mailbox(text).address


def parse_domain(text: str) -> str:
    """Return the normal form of a domain of two labels or more; raises `AddressError`."""
    if len(text) > ADDRESS_OCTETS_MAX:
        raise AddressError(f"the domain is longer than {DOMAIN_OCTETS_MAX} octets")
    if text.isascii():
        # Labels that are A-labels already are taken as they are: DNS decides whether they exist, and
        # there are registered ones (emoji) that IDNA 2008 would not make.
        domain = text.lower()
    else:
        try:
            domain = idna.encode(text, uts46=True, std3_rules=True).decode("ascii")
        except idna.IDNAError as error:
            raise AddressError(f"the domain is not a valid international name: {error.args[0]}") from None
    if _is_ascii_domain(domain) is None:
        raise AddressError(_domain_complaint(domain))
    if len(domain) > DOMAIN_OCTETS_MAX:
        raise AddressError(f"the domain is longer than {DOMAIN_OCTETS_MAX} octets")
    return domain


def with_u_labels(address: str) -> str:
    """An address as its owner reads it, A-labels of its domain as the characters that they stand for (RFC 3492). Takes
    any text; a label that stands for nothing stays as it is. No table of IDNA is asked, so it is the same for ever."""
    local, at, domain = address.rpartition("@")
    return f"{local}{at}{'.'.join(map(_u_label, domain.split('.')))}"


def _u_label(label: str) -> str:
    if len(label) > LABEL_CHARACTERS_MAX or not label.lower().startswith("xn--"):
        return label
    try:
        decoded = label[4:].encode("ascii").decode("punycode")
        decoded.encode()  # a lone surrogate is no character
    except UnicodeError:
        return label
    return decoded


def is_host_name(text: str) -> bool:
    """Whether `text` is an ASCII host name of two labels or more, in any case."""
    return len(text) <= DOMAIN_OCTETS_MAX and _is_ascii_domain(text) is not None


def _split_name(text: str) -> tuple[str, str]:
    """Split ``Name <address>`` into the unquoted name and the address; a bare address has the name ""."""
    if len(text) > INPUT_CHARACTERS_MAX:
        raise AddressError("this is too long to be an address")
    forbidden = FORBIDDEN.search(text)
    if forbidden is not None:
        raise AddressError(f"the address contains the control character U+{ord(forbidden[0]):04X}; remove it")
    unseen = invisible(text)
    if unseen is not None:
        raise AddressError(f"the address contains {unseen}, which nobody can see; remove it")
    text = text.strip(" \t")
    if not text:
        raise AddressError("the address is empty")
    if not text.endswith(">"):
        return "", text
    phrase, bracket, address = text[:-1].rpartition("<")
    if not bracket:
        raise AddressError("the address has a > without a <; write Name <address>")
    name = _unquote_phrase(phrase)
    if len(name) > NAME_CHARACTERS_MAX:
        raise AddressError(f"the name before the address has more than {NAME_CHARACTERS_MAX} characters")
    return name, address.strip(" \t")


def _unquote_phrase(phrase: str) -> str:
    """Return the text that an RFC 5322 phrase stands for, white space collapsed (it carries no meaning)."""
    pieces = []
    for word in _find_words(phrase):
        quoted, atom, _, stray = word.groups()
        if stray is not None:
            raise AddressError(
                f'the name contains {stray} outside double quotes; write "Doe, Jo" <jo@example.com>'
            )
        if quoted is not None:
            pieces.append(_unescape(r"\1", quoted))
        else:
            pieces.append(atom or " ")
    return re.sub(r"[ \t]+", " ", "".join(pieces)).strip(" ")


def _split_address(address: str) -> tuple[str, str]:
    """Split ``local@domain`` at its last @, and check both sides."""
    local, at, domain = address.rpartition("@")
    if not at:
        raise AddressError("the address has no @; write local@domain")
    if local.startswith('"'):
        raise AddressError("a quoted part before the @ is not supported; use an address without quotes")
    if _is_dot_atom(local) is None or any(character.isspace() for character in local):
        raise AddressError(_local_complaint(local))
    return local, parse_domain(domain)


def _local_complaint(local: str) -> str:
    if not local:
        return "nothing stands before the @"
    if "," in local or ";" in local:
        return SEVERAL_ADDRESSES
    if local.startswith(".") or local.endswith(".") or ".." in local:
        return "the part before the @ begins or ends with a dot, or has two dots in a row"
    return "the part before the @ contains a character that is not allowed in an address"


def _domain_complaint(domain: str) -> str:
    if not domain:
        return "nothing stands after the @"
    if domain.startswith("["):
        return "an address literal ([...]) is not supported; use a domain name"
    if domain.endswith("."):
        return "the domain ends with a dot; leave it out"
    if "." not in domain:
        return "the domain has only one label; write it in full, as in example.com"
    if domain.rpartition(".")[2].isdigit():
        return "the domain ends with a number; an IP address is not a domain name"
    return "the domain is not a valid host name (letters, digits and inner hyphens, at most 63 a label)"
