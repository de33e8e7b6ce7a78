"""What the child that reads mail computes (`in_child`): pure, and slow or greedy where a stranger wants it so."""

from __future__ import annotations

from relay.mail_reading import Reading
from relay.message.verifying import signed_by
from relay.processes.mail_questions import ReadMail, SignedBy, VerifySignatures
from relay.reports.read import read_mail

QUESTIONS = ReadMail | VerifySignatures


def answer(question: ReadMail | VerifySignatures, octets: bytes) -> Reading | SignedBy:
    match question:
        case ReadMail():
            return read_mail(octets)
        case VerifySignatures(keys, now):
            return SignedBy(signed_by(octets, keys, now=now))
