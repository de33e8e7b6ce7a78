"""A campaign against the SMTP client: `python -m tests.campaigns.smtp_servers [--seconds 60] [--seed 1]`.

Servers that behave for a while and then say whatever they like, in whatever pieces; each is a whole session, played by
`tests.world.smtp_talk.talk`, which knows what must hold. Replies are legal or the server is told off by
RemoteProtocolError; anything else ends the campaign with the server's words, ready to become a test.

The same seed gives the same servers; how many there are in the time depends on the machine.
"""

import argparse
import random
import time
from collections import Counter
from collections.abc import Iterator

from relay.delivery.reply_reader import RemoteProtocolError
from tests.world.smtp_talk import BEHAVING, UTTERANCES, talk


def server(dice: random.Random) -> list[bytes]:
    """What one server says, piece by piece."""
    said = list(dice.choice(BEHAVING))
    for _ in range(dice.randrange(20)):
        said.append(dice.choice(_INVENTIONS)(dice))
    if dice.random() < 0.3:
        said = _cut_again(b"".join(said), dice)
    return said


def _utterance(dice: random.Random) -> bytes:
    return dice.choice(UTTERANCES)


def _mutation(dice: random.Random) -> bytes:
    """A sensible thing with a few bytes changed, lost or doubled."""
    words = bytearray(dice.choice(UTTERANCES))
    for _ in range(dice.randrange(1, 4)):
        at = dice.randrange(len(words) + 1)
        words[at : at + dice.randrange(3)] = dice.choice(_SEEDS)
    return bytes(words)


def _reply(dice: random.Random) -> bytes:
    """A reply of any code, with any number of lines."""
    code = b"%03d" % dice.randrange(1000)
    lines = [dice.randbytes(dice.randrange(30)) for _ in range(dice.choice((0, 0, 1, 3, 150)))]
    return b"".join(code + b"-" + line + b"\r\n" for line in lines) + code + b" 2.0.0 ok\r\n"


def _noise(dice: random.Random) -> bytes:
    return dice.randbytes(dice.choice((1, 10, 100, 5000)))


def _cut_again(data: bytes, dice: random.Random) -> list[bytes]:
    step = dice.choice((1, 2, 7, 64))
    return [data[start : start + step] for start in range(0, len(data), step)]


_INVENTIONS = (_utterance, _utterance, _utterance, _mutation, _reply, _noise)
_SEEDS = (b"", b"\r", b"\n", b"\r\n", b"\0", b"-", b" ", b"250 ", b"421 ", b"\xff", "ü\u2028".encode())


def campaign(dice: random.Random) -> Iterator[Counter[str]]:
    """Play one server after the other, without end; after each, what has been seen so far."""
    seen: Counter[str] = Counter()
    while True:
        said = server(dice)
        try:
            replies = talk(said)
        except RemoteProtocolError:
            seen["told off"] += 1
        except BaseException as error:
            error.add_note(f"the server said {said!r}")
            raise
        else:
            seen["heard out"] += 1
            seen.update(f"{reply.command.value} {reply.code // 100}xx" for reply in replies)
        yield seen


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.campaigns.smtp_servers", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    end = time.monotonic() + options.seconds
    seen = next(seen for seen in campaign(random.Random(options.seed)) if time.monotonic() >= end)
    for what, times in sorted(seen.items()):
        print(f"{times:10}  {what}")


if __name__ == "__main__":
    main()
