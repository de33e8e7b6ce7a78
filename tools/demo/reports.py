"""What comes back of a mail in the demo, as mail servers and providers write it.

A bounce (RFC 3464) needs no signature: its address knows the message. A complaint (RFC 5965) is believed because its
provider signed it, so `FeedbackProvider` has a key, and `names` publishes it.
"""

from __future__ import annotations

import base64
import secrets
from email.utils import formatdate

import dkim
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

PROVIDER_DOMAIN = "feedback.mailbox.example"
SELECTOR = "demo"


def bounce_report(mail_from: str, rcpt_to: str, message: bytes) -> bytes:
    """To the envelope sender of the mail that could not be delivered after all."""
    lines = f"""\
From: Mail Delivery System <MAILER-DAEMON@mx.example.com>
To: {mail_from}
Subject: Undelivered Mail Returned to Sender
Auto-Submitted: auto-replied
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status; boundary="demo"

--demo

Your mail could not be delivered.

--demo
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.example.com

Final-Recipient: rfc822; {rcpt_to}
Action: failed
Status: 5.1.1
Diagnostic-Code: smtp; 550 5.1.1 there is no mailbox {rcpt_to}

--demo
Content-Type: text/rfc822-headers

{_header(message)}

--demo--
"""
    return lines.replace("\n", "\r\n").encode()


class FeedbackProvider:
    """A provider whose users complain; its key is made anew each time."""

    def __init__(self, report_to: str) -> None:
        self.report_to = report_to
        key = generate_private_key(public_exponent=65537, key_size=2048)
        self._key = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
        public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        #: The DNS name of its key, and the record.
        self.record = (
            f"{SELECTOR}._domainkey.{PROVIDER_DOMAIN}",
            f"v=DKIM1; k=rsa; p={base64.b64encode(public).decode()}",
        )

    def complaint(self, rcpt_to: str, message: bytes) -> bytes:
        """That the owner of this mailbox called the mail spam; signed."""
        lines = f"""\
From: Feedback <feedback@{PROVIDER_DOMAIN}>
To: {self.report_to}
Subject: Complaint about a mail of yours
Date: {formatdate(usegmt=True)}
Message-ID: <{secrets.token_hex(8)}@{PROVIDER_DOMAIN}>
MIME-Version: 1.0
Content-Type: multipart/report; report-type=feedback-report; boundary="demo"

--demo
Content-Type: text/plain

The owner of a mailbox here called this mail spam.

--demo
Content-Type: message/feedback-report

Feedback-Type: abuse
User-Agent: Demo/1
Version: 1
Original-Rcpt-To: {rcpt_to}
Reporting-MTA: dns; mx.mailbox.example

--demo
Content-Type: text/rfc822-headers

{_header(message)}

--demo--
"""
        octets = lines.replace("\n", "\r\n").encode()
        signature: bytes = dkim.sign(octets, SELECTOR.encode(), PROVIDER_DOMAIN.encode(), self._key)
        return signature + octets


def _header(message: bytes) -> str:
    return message.partition(b"\r\n\r\n")[0].decode().replace("\r\n", "\n")
