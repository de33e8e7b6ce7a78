"""The grammar of the commands: what a line of the client's says. No I/O, no clock.

The contract. `split` takes any line that `relay.reception.lines` gives and returns its verb and what follows it;
`mail` and `recipient` read the arguments of MAIL and RCPT. What is no command, or asks for what is not offered, is
`Misspoken` with the reply that it gets. An address comes out as it was written between its brackets; whether it is
one is the door's to say.

Sources: RFC 5321 sections 4.1.1 and 4.1.2, RFC 1870 (SIZE), 6152 (8BITMIME), 6531 section 3.4 (SMTPUTF8), 4954 section
5 (AUTH= is parsed and ignored), 3461 (DSN, which is not offered: 555).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from relay.reception.data import too_big
from relay.reception.replies import Reply

#: RFC 5321 section 4.5.3.1.3, without the brackets.
PATH_BYTES_MAX: Final = 254
#: RFC 5321 section 4.5.3.1.2.
NAME_BYTES_MAX: Final = 255


class Misspoken(Exception):
    """A command that cannot be carried out as it was said."""

    def __init__(self, code: int, enhanced: str, text: str) -> None:
        super().__init__(text)
        self.reply = Reply(code, enhanced, text)


class NotSmtp(Misspoken):
    """Whoever says this speaks another protocol (a browser that was made to post here, say), and must not be heard
    out: what looks like commands further down would be carried out."""


@dataclass(slots=True)
class Transaction:
    """MAIL and the RCPTs that were accepted."""

    #: As it was written between < and >; "" is the null sender. Not checked, but that it is UTF-8 (ASCII without
    #: SMTPUTF8), has no control character, no bracket and no white space outside quotes, and at most 254 octets.
    mail_from: str
    #: SIZE=, which is at most message_bytes_max.
    declared_bytes: int | None = None
    #: BODY=8BITMIME was said. Many clients do not say it and send 8-bit octets all the same.
    eight_bit: bool = False
    smtputf8: bool = False
    #: As they were written, in their order, said twice where they were said twice; the same promises as `mail_from`.
    recipients: list[str] = field(default_factory=list)


def split(line: bytes) -> tuple[str, bytes]:
    """The verb in capitals, and its argument without the white space around it."""
    verb, _, argument = line.partition(b" ")
    if not verb:
        raise Misspoken(500, "5.5.2", "a line without a command")
    if not _VERB.fullmatch(verb):
        raise NotSmtp(521, "5.5.1", "this is an SMTP server, and that was no SMTP")
    name = verb.decode("ascii").upper()
    if name in _OTHER_PROTOCOLS:
        raise NotSmtp(521, "5.5.1", "this is an SMTP server; it does not speak HTTP")
    if _CONTROL.search(argument):
        raise Misspoken(500, "5.5.2", "there is a control character in the command")
    return name, argument.strip(b" ")


def ehlo_name(argument: bytes) -> str:
    """The argument of EHLO and HELO: one word, of any kind."""
    if not _NAME.fullmatch(argument) or len(argument) > NAME_BYTES_MAX:
        raise Misspoken(501, "5.5.4", "say who you are: EHLO, and your host name or [address]")
    return argument.decode("ascii")


def mail(argument: bytes, *, bytes_max: int, has_auth: bool) -> Transaction:
    """`FROM:<...>` and its parameters."""
    path, parameters = _path(argument, b"FROM:", "MAIL FROM:<address>")
    transaction = Transaction("")
    for name, value in parameters.items():
        match name:
            case "SIZE":
                transaction.declared_bytes = _size(value, bytes_max)
            case "BODY":
                transaction.eight_bit = _one_of(value, {"7BIT": False, "8BITMIME": True})
            case "SMTPUTF8":
                transaction.smtputf8 = _alone(name, value)
            case "AUTH" if has_auth:
                _require(_XTEXT_OR_NOBODY.fullmatch(value or "") is not None, "AUTH= is followed by xtext")
            case _:
                raise _not_offered(name)
    transaction.mail_from = _decoded(path, smtputf8=transaction.smtputf8)
    return transaction


def recipient(argument: bytes, *, smtputf8: bool) -> str:
    """`TO:<...>`; it has no parameters."""
    path, parameters = _path(argument, b"TO:", "RCPT TO:<address>")
    for name in parameters:
        raise _not_offered(name)
    if not path:
        raise Misspoken(501, "5.1.3", "a recipient is needed between < and >")
    return _decoded(path, smtputf8=smtputf8)


def _path(argument: bytes, keyword: bytes, usage: str) -> tuple[bytes, dict[str, str | None]]:
    if argument[: len(keyword)].upper() != keyword:
        raise Misspoken(501, "5.5.4", f"write {usage}")
    match = _PATH.fullmatch(argument[len(keyword) :])
    if match is None:
        raise Misspoken(501, "5.1.3", f"write {usage}, with the brackets and without spaces in the address")
    if len(match["path"]) > PATH_BYTES_MAX:
        raise Misspoken(553, "5.1.3", f"the address is over {PATH_BYTES_MAX} octets")
    parameters: dict[str, str | None] = {}
    for word in match["parameters"].split():
        parameter = _PARAMETER.fullmatch(word)
        _require(parameter is not None, "a parameter is NAME or NAME=VALUE")
        assert parameter is not None
        name = parameter["name"].decode("ascii").upper()
        _require(name not in parameters, f"{name} is there twice")
        value = parameter["value"]
        parameters[name] = None if value is None else value.decode("ascii")
    return match["path"], parameters


def _decoded(path: bytes, *, smtputf8: bool) -> str:
    if not path.isascii() and not smtputf8:
        raise Misspoken(553, "5.6.7", "an address that is not ASCII needs SMTPUTF8 behind MAIL FROM")
    try:
        return path.decode()
    except UnicodeDecodeError:
        raise Misspoken(553, "5.1.3", "the address is not UTF-8") from None


def _size(value: str | None, bytes_max: int) -> int:
    _require(
        value is not None and _SIZE.fullmatch(value) is not None, "SIZE= is followed by a number of octets"
    )
    assert value is not None
    size = int(value)
    if size > bytes_max:
        raise Misspoken(*too_big(bytes_max))
    return size


def _one_of(value: str | None, meaning: dict[str, bool]) -> bool:
    word = (value or "").upper()
    _require(word in meaning, f"expected {' or '.join(meaning)}")
    return meaning[word]


def _alone(name: str, value: str | None) -> bool:
    _require(value is None, f"{name} has no value")
    return True


def _not_offered(name: str) -> Misspoken:
    return Misspoken(555, "5.5.4", f"{name} is not offered here")


def _require(condition: bool, sentence: str) -> None:
    if not condition:
        raise Misspoken(501, "5.5.4", sentence)


_VERB: Final = re.compile(rb"[A-Za-z0-9]{1,12}")
_CONTROL: Final = re.compile(rb"[\x00-\x1f\x7f]")
_NAME: Final = re.compile(rb"[\x21-\x7e]+")
#: Some clients put a space before the bracket. The quantifiers give nothing back, so time is linear.
_PATH: Final = re.compile(
    rb' ?<(?P<path>(?:"(?:[^"\\]|\\.)*+"|[^\x00-\x20\x7f<>"\\])*+)>(?P<parameters>(?: .*)?)'
)
_PARAMETER: Final = re.compile(rb"(?P<name>[A-Za-z0-9][A-Za-z0-9-]*)(?:=(?P<value>[\x21-\x3c\x3e-\x7e]+))?")
_SIZE: Final = re.compile(r"[0-9]{1,20}")
_XTEXT_OR_NOBODY: Final = re.compile(r"<>|(?:[!-*,-<>-~]|\+[0-9A-F]{2})+")
#: What browsers and proxies begin with. `Host:` and the like are no verbs at all.
_OTHER_PROTOCOLS: Final = frozenset(
    {"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"}
)
