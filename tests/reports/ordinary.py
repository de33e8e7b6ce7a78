"""Ordinary mail, and of it mostly what a hasty reader takes for a bounce: people who talk about bounces, newsletters
with the codes in their text, parcels that could not be delivered, automatic answers.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from tests.reports.samples import sample

_BOUNCE = sample("exim_in_words").decode().replace("\r\n", "\n")
_REPORT = sample("postfix_unknown_user").decode().replace("\r\n", "\n")
_QMAIL = sample("qmail").decode().replace("\r\n", "\n")


def _quoted(text: str) -> str:
    return "".join(f"> {line}\n" for line in text.splitlines())


#: What people, lists and shops write: header of their kind, and text.
_PEOPLE = (
    "From: Ann Example <ann@example.org>\n",
    "From: bounce-expert@example.com\nX-Mailer: Apple Mail (2.3)\n",
    "From: =?utf-8?q?J=C3=B6rg?= <joerg@example.de>\nUser-Agent: Mozilla Thunderbird\n",
)
_LISTS = (
    "From: Ann via Mailop <mailop@lists.example.org>\nList-Id: <mailop.lists.example.org>\nPrecedence: list\n"
    "Return-Path: <mailop-bounces@lists.example.org>\n",
    "From: notifications@code.example\nList-Unsubscribe: <mailto:u@code.example>\nAuto-Submitted: auto-generated\n"
    "Precedence: bulk\n",
)
_SHOPS = (
    "From: Parcels <no-reply@parcels.example>\nAuto-Submitted: auto-generated\n",
    "From: news@shop.example\nList-Unsubscribe: <https://shop.example/u>\nPrecedence: bulk\n",
    "From: billing@shop.example\n",
)
_POSTMASTERS = (
    "From: Postmaster <postmaster@example.net>\nUser-Agent: Mutt/2.2\n",
    "From: Abuse Team <abuse@example.net>\n",
)

_TALK_SUBJECTS = (
    "Re: Undelivered Mail Returned to Sender",
    "Fwd: Mail delivery failed: returning message to sender",
    "AW: Unzustellbar: Angebot",
    "TR: Undeliverable: Offre",
    "Delivery problems to your domain",
    "What does 550 5.1.1 mean?",
    "Your mail never arrived",
    "Re: 5.1.1",
    "Hello",
    "",
)
_TALK = (
    "Hi,\n\nour mails to you bounce with 550 5.1.1 User unknown. Could you have a look?\n\nAnn\n",
    "Since Monday nothing could be delivered to your server: it says 451 4.7.1 try again later.\n",
    "I got this back:\n\n" + _quoted(_BOUNCE),
    "See below.\n\nBegin forwarded message:\n\n" + _quoted(_QMAIL),
    "What is this?\n\n-----Original Message-----\n" + _BOUNCE,
    "My message was undeliverable, and your answer to it, too, so I write again.\n",
    "Action: failed\nStatus: 5.1.1\n\nThat is what a delivery report looks like. Final-Recipient: is the third.\n",
    "The RFC says: 550 mailbox unavailable, 551 user not local, 552 exceeded storage allocation, 553 not allowed.\n",
)
_TALKING = [
    f"{who}Subject: {subject}\n\n{text}" for who, subject, text in product(_PEOPLE, _TALK_SUBJECTS, _TALK)
]
_ON_LISTS = [
    f"{who}Subject: [mailop] {subject}\n\n{text}"
    for who, subject, text in product(_LISTS, _TALK_SUBJECTS, _TALK)
]
_BY_POSTMASTERS = [
    f"{who}Subject: {subject}\nIn-Reply-To: <1@yourdomain.com>\n\n{text}"
    for who, subject, text in product(
        _POSTMASTERS, ("Re: Undeliverable: x", "Re: abuse", "Delivery problems"), _TALK[:2]
    )
]
_TRADE = [
    f"{who}Subject: {subject}\n\n{text}"
    for who, subject, text in product(
        _SHOPS,
        (
            "Delivery failed",
            "Delivery notification: your parcel 5.1.1",
            "Your delivery is delayed",
            "Order 550-5511",
            "Message you sent to support",
        ),
        (
            "Your parcel could not be delivered. It will be returned to sender.\n",
            "Delivery has been delayed. No need to resend; it will be retried tomorrow. Ref 550 5.1.1\n",
            "Only 550 left! 5.1.1 of our terms: the mailbox is full of offers. Call 451 4221.\n",
            "We were unable to deliver to 550 Main Street, 5th floor. Permanent failure of the lift.\n",
        ),
    )
]
_ATTACHED = [
    f"{who}Subject: {subject}\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=outer\n\n--outer\n"
    f"Content-Type: text/plain\n\nPlease have a look at what came back.\n\n--outer\nContent-Type: message/rfc822\n\n"
    f"{attached}\n--outer--\n"
    for who, subject, attached in product(
        _PEOPLE, ("Fwd: Undelivered Mail Returned to Sender", "strange mail", "Returned"), (_REPORT, _BOUNCE)
    )
]
#: Some programs pass a report on part by part.
_IN_PARTS = [
    f"{who}Subject: {subject}\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=outer\n\n--outer\n"
    "Content-Type: text/plain\n\nPlease have a look at this.\n\n--outer\nContent-Type: message/delivery-status\n\n"
    "Reporting-MTA: dns; mx.example.net\n\nFinal-Recipient: rfc822; a@b.example\nAction: failed\nStatus: 5.1.1\n"
    "\n--outer--\n"
    for who, subject in product(
        _PEOPLE, ("Fwd: Undelivered Mail Returned to Sender", "Re: Delivery report", "Hello")
    )
]
_CALENDAR = [
    f"From: ann@example.org\nSubject: {subject}\nContent-Type: multipart/alternative; boundary=c\n\n--c\n"
    "Content-Type: text/plain\n\nWhen: 5.5.2025, room 5.1.1\n--c\nContent-Type: text/calendar; method=REQUEST\n\n"
    "BEGIN:VCALENDAR\nMETHOD:REQUEST\nSTATUS:CONFIRMED\nACTION:DISPLAY\nEND:VCALENDAR\n--c--\n"
    for subject in ("Invitation: bounce handling", "Declined: delivery failure review", "Accepted: 550 5.1.1")
]
_ANSWERS = [
    f"From: ann@example.org\n{how}\n\nI am away until 5.5.25 and could not be reached; your message will be forwarded. "
    "Call 550 1234. Undeliverable letters: room 5.1.1.\n"
    for how in (
        "Subject: Automatic reply: Hello\nAuto-Submitted: auto-replied",
        "Subject: Out of Office: Hello\nX-Auto-Response-Suppress: All\nReturn-Path: <>",
        "Subject: Abwesenheitsnotiz: Angebot\nReturn-Path: <>\nPrecedence: bulk",
        "Subject: Re: Hello\nPrecedence: auto_reply",
        "Subject: vacation\nAuto-Submitted: auto-replied\nReturn-Path: <>",
        "Subject: We have your request [#5505]\nAuto-Submitted: auto-replied",
    )
]
_RECEIPTS = [
    "From: ann@example.org\nSubject: Read: Hello\nContent-Type: multipart/report;"
    " report-type=disposition-notification; boundary=r\n\n--r\n\nYour message was read on 5.5.2025.\n--r\n"
    "Content-Type: message/disposition-notification\n\nFinal-Recipient: rfc822; ann@example.org\n"
    "Disposition: manual-action/MDN-sent-manually; displayed\n--r--\n",
    "From: postmaster@example.net\nSubject: Verify your complaint feedback loop\n\nYour code is 550551.\n",
    "From: root@host.example (Cron Daemon)\nSubject: Cron <root@host> backup\nAuto-Submitted: auto-generated\n\n"
    "rsync: failed 550 files, 5.1.1 GB\n",
    "From: monitor@host.example\nSubject: ALERT: mail queue 550, message delivery delayed\n\nqueue 550 > 500\n",
    "From: ann@example.org\n\nno subject, no more\n",
]


def ordinary() -> Iterator[bytes]:
    """More than five hundred; the order is always the same."""
    for text in (
        *_TALKING,
        *_ON_LISTS,
        *_BY_POSTMASTERS,
        *_TRADE,
        *_ATTACHED,
        *_IN_PARTS,
        *_CALENDAR,
        *_ANSWERS,
        *_RECEIPTS,
    ):
        yield text.encode()
