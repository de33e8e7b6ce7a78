"""What does a message cost to compose and sign, and how far is that from the private-key operations alone?

The ceiling is measured in the same run, in turns with the rest: four signatures over a given digest, two RSA-2048 and
two Ed25519. What is missing to it is composing, canonicalising and hashing. CPU time of this process, one message at
a time.

    python -m benchmarks.compose_sign
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import NamedTuple

from relay.addresses import parse_mailbox
from relay.compose import Body, Content, Message, compose, compose_body, feedback_id
from relay.keys import KeyRing
from relay.signing import body_hash, sign

RUNS = 15
MESSAGES_PER_RUN = 100
STEM = "atmos20251124"
ACCEPTED_AT_US = 1_764_000_000_000_000
DID = "did:plc:ewvi7nxzyoun6zhxrhs64oiz"
TEXT = "Hello Jane,\n\nthree things happened this week, and here is the first of them.\n" * 6
HTML = "<p>Hello Jane,</p>\n<p>three things happened this week, and <b>here</b> is the first.</p>\n" * 6
CONTENT = Content(parse_mailbox("Member News <news@member.example>"), "Your weekly digest", TEXT, HTML)
JANE = parse_mailbox("Jane Doe <jane@recipient.example>")


class Question(NamedTuple):
    what: str
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


def microseconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    for _ in range(MESSAGES_PER_RUN):
        work()
    return (time.process_time() - start) / MESSAGES_PER_RUN * 1e6


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        ring = KeyRing(Path(directory))
        signers = [*ring.create("member.example", STEM), *ring.create("relay.example", STEM)]
    body = compose_body(TEXT, HTML)
    bh = body_hash(body.octets)
    message = composed(body)
    second = ACCEPTED_AT_US // 1_000_000

    whole = "compose and sign, first recipient of a send"
    ceiling = "private-key operations alone"
    questions = [
        Question(whole, lambda: sign(composed(compose_body(TEXT, HTML)), signers, timestamp=second)),
        Question(
            "compose and sign, each further recipient",
            lambda: sign(composed(body), signers, timestamp=second, bh=bh),
        ),
        Question("compose", lambda: composed(compose_body(TEXT, HTML))),
        Question("sign", lambda: sign(message, signers, timestamp=second)),
        Question(ceiling, lambda: [signer.sign_digest(b"d" * 32) for signer in signers]),
    ]
    times: dict[str, list[float]] = {question.what: [] for question in questions}
    for _ in range(RUNS):
        for question in questions:
            times[question.what].append(microseconds(question.work))

    print(f"a message of {len(message.as_bytes())} bytes and four signatures; medians of {RUNS} runs")
    for what, measured in times.items():
        print(f"{what:<44} {median(measured):>7.0f} µs")
    ratio = median(part / all_ for part, all_ in zip(times[ceiling], times[whole], strict=True))
    print(f"{'private-key operations, of the whole':<44} {ratio:>7.0%}")


if __name__ == "__main__":
    main()
