"""Mails of 11 MB, each made to cost whoever reads it: his time, his memory, or both."""

from __future__ import annotations

import base64
import random
from collections.abc import Callable

OCTETS = 11_100_000
_DAEMON = b"From: MAILER-DAEMON@example.net\nSubject: failure notice\n"
_REPORT = b"Content-Type: multipart/report; report-type=delivery-status; boundary=b\n\n"
_MIXED = b"Content-Type: multipart/mixed; boundary=b\n\n"
_STATUS = b"--b\nContent-Type: message/delivery-status\n\nAction: failed\nStatus: 5.1.1\n\n"


def _fill(unit: bytes, octets: int = OCTETS) -> bytes:
    return (unit * (octets // len(unit) + 1))[:octets]


def _nested(boundaries: list[bytes], filler: bytes) -> bytes:
    return b"".join(
        b"Content-Type: multipart/mixed; boundary=" + boundary + b"\n\n--" + boundary + b"\n"
        for boundary in boundaries
    ) + _fill(filler)


def _fifty(part: bytes) -> bytes:
    return b"".join(b"--b\n" + _fill(part, OCTETS // 50) + b"\n" for _ in range(50))


HUGE: dict[str, Callable[[], bytes]] = {
    "bounce with a long text": lambda: (
        _DAEMON + b"\n" + _fill(b"<friend@example.org>: 550 5.1.1 no such user\n")
    ),
    "bounce in base64": lambda: (
        _DAEMON
        + b"Content-Transfer-Encoding: base64\n\n"
        + _fill(base64.b64encode(b"550 5.1.1 no such user, " * 2) + b"\n")
    ),
    "quoted-printable": lambda: (
        _DAEMON + b"Content-Transfer-Encoding: quoted-printable\n\n" + _fill(b"=41=\n")
    ),
    "report behind an attachment": lambda: _REPORT + b"--b\n\n" + _fill(b"x" * 76 + b"\n") + b"\n" + _STATUS,
    "report on a large mail": lambda: (
        _REPORT + _STATUS + b"--b\nContent-Type: message/rfc822\n\n" + _fill(b"a: b\n")
    ),
    "report of many recipients": lambda: _REPORT + _STATUS + _fill(b"Action: failed\nStatus: 5.1.1\n\n"),
    "one line": lambda: _DAEMON + b"\n" + _fill(b"a@"),
    "line feeds": lambda: _fill(b"\n"),
    "returns": lambda: _fill(b"\r"),
    "returns and line feeds": lambda: b"a: b\r\n" + _fill(b"c\r\n \r\r"),
    "fields": lambda: _fill(b"A: b\n"),
    "one field": lambda: b"Subject: " + _fill(b"=?utf-8?q?a?= "),
    "one folded field": lambda: b"From: x\n" + _fill(b" <a@\n"),
    "types": lambda: b"Content-Type: text/plain" + _fill(b'; a="b'),
    "message-ids": lambda: b"References: " + _fill(b"<a@b> "),
    "signatures": lambda: _fill(b"DKIM-Signature: d=a; s=b;\n"),
    "boundaries": lambda: _DAEMON + _MIXED + _fill(b"--b\n"),
    "nearly boundaries": lambda: _DAEMON + _MIXED + _fill(b"\n--bb"),
    "boundaries that nobody told": lambda: _DAEMON + b"Content-Type: multipart/mixed\n\n" + _fill(b"--b\n\n"),
    "dashes": lambda: _DAEMON + b"Content-Type: multipart/mixed; boundary=-\n\n" + _fill(b"-"),
    "nested multiparts": lambda: _fill(b"Content-Type: multipart/mixed; boundary=b\n\n--b\n"),
    "nested multiparts of their own": lambda: b"".join(
        b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (number, number)
        for number in range(210_000)
    ),
    "nested dashes": lambda: _nested([b"-" * count for count in range(9, 3, -1)], b"-"),
    "nested, and nearly boundaries": lambda: _nested(
        [b"b" * count for count in range(9, 3, -1)], b"\n--bbbbbbbbbbb"
    ),
    "nested messages": lambda: _fill(b"Content-Type: message/rfc822\n\n"),
    "fifty headers": lambda: _DAEMON + _MIXED + _fifty(b"Content-Type: text/html;a=b\n"),
    "fifty texts": lambda: _DAEMON + _MIXED + _fifty(b"bounces+1-aaaaaaaaaaaaaaa 5.1 :550 Action: Status:\n"),
    "fifty pages": lambda: _DAEMON + _MIXED + _fifty(b"Content-Type: text/html\n\n<a <<"),
    "tags": lambda: _DAEMON + b"Content-Type: text/html\n\n" + _fill(b"<"),
    "complaints": lambda: (
        b"Content-Type: multipart/report; report-type=feedback-report; boundary=b\n\n"
        b"--b\nContent-Type: message/feedback-report\n\n" + _fill(b"Feedback-Type: x\n")
    ),
    "spaces": lambda: _DAEMON + b"\n" + _fill(b" "),
    "digits": lambda: _DAEMON + b"\n" + _fill(b"5.1."),
    "zeros": lambda: bytes(OCTETS),
    "chance": lambda: random.Random(1).randbytes(OCTETS),
}
