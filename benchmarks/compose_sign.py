"""What does a message cost to compose and sign, and how far is that from the private-key operations alone?

    python -m benchmarks.compose_sign

The ceiling is measured in the same round, in turn with the rest: four signatures over a given digest, two RSA-2048 and
two Ed25519. What is missing to it is composing, canonicalising and hashing. CPU time of this process, one message at
a time.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from benchmarks.command import Effort, run
from benchmarks.report import Comparison, Demand, Row
from relay.addresses import parse_mailbox
from relay.message.bodies import Body, compose_body
from relay.message.compose import Draft, Message, compose, feedback_id
from relay.message.keys import KeyRing
from relay.message.signing import body_hash, sign

QUESTION = "compose_sign"
MESSAGES_PER_RUN = 100
STEM = "atmos20251124"
ACCEPTED_AT_US = 1_764_000_000_000_000
DID = "did:plc:ewvi7nxzyoun6zhxrhs64oiz"
TEXT = "Hello Jane,\n\nthree things happened this week, and here is the first of them.\n" * 6
HTML = "<p>Hello Jane,</p>\n<p>three things happened this week, and <b>here</b> is the first.</p>\n" * 6
CONTENT = Draft(parse_mailbox("Member News <news@member.example>"), "Your weekly digest", TEXT, HTML)
JANE = parse_mailbox("Jane Doe <jane@recipient.example>")


class Question(NamedTuple):
    case: str
    work: Callable[[], object]


def composed(body: Body) -> Message:
    return compose(
        CONTENT,
        body,
        to=JANE,
        message_id="<448.k3v7q2@member.example>",
        accepted_at_us=ACCEPTED_AT_US,
        feedback_id=feedback_id(
            sending_domain="member.example", did=DID, category="bulk", operator_domain="relay.example"
        ),
        member_did=DID,
        list_unsubscribe_url="https://relay.example/u/" + "A" * 110,
    )


def microseconds(work: Callable[[], object], times: int) -> float:
    start = time.process_time()
    for _ in range(times):
        work()
    return (time.process_time() - start) / times * 1e6


def measure(effort: Effort) -> Iterator[Row]:
    messages = effort.scaled(MESSAGES_PER_RUN)
    with tempfile.TemporaryDirectory() as directory:
        ring = KeyRing(Path(directory))
        signers = [*ring.create("member.example", STEM), *ring.create("relay.example", STEM)]
    body = compose_body(TEXT, HTML)
    bh = body_hash(body.octets)
    message = composed(body)
    second = ACCEPTED_AT_US // 1_000_000

    questions = [
        Question(
            "first recipient of a send",
            lambda: sign(composed(compose_body(TEXT, HTML)), signers, timestamp=second),
        ),
        Question("each further recipient", lambda: sign(composed(body), signers, timestamp=second, bh=bh)),
        Question("composing alone", lambda: composed(compose_body(TEXT, HTML))),
        Question("signing alone", lambda: sign(message, signers, timestamp=second)),
    ]
    times: dict[str, list[float]] = {question.case: [] for question in questions}
    ceiling: list[float] = []
    for _ in range(effort.rounds * 3):
        ceiling.append(microseconds(lambda: [signer.sign_digest(b"d" * 32) for signer in signers], messages))
        for question in questions:
            times[question.case].append(microseconds(question.work, messages))
    for case, values in times.items():
        signs = case != "composing alone"
        yield Row(
            question=QUESTION,
            case=f"{case}, four signatures" if signs else case,
            what="µs of CPU",
            values=values,
            against=Comparison("µs, private-key operations alone", ceiling) if signs else None,
            lower_is_better=True,
            asked=Demand("median", at_most=1600) if case == questions[0].case else None,
            is_headline=case == questions[0].case,
        )


if __name__ == "__main__":
    run({QUESTION: measure})
