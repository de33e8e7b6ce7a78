"""What an SMTP server says: a code, an enhanced code and a sentence, as the lines that go over the wire.

The invariant: **whatever stands in a sentence, a reply is one reply.** It is ASCII, it has no line end but its own, no
line over 512 octets, and a bounded number of them. What is no printable ASCII in a sentence is shown as `?`, because a
client need not know UTF-8 (RFC 6531 section 3.7.4.2 wants it told first).

Sources: RFC 5321 sections 4.2 and 4.5.3.1.5, RFC 2034 (each line of a reply begins with the enhanced code), RFC 3463.
"""

from __future__ import annotations

import re
from textwrap import wrap
from typing import Final, NamedTuple

#: RFC 5321 section 4.5.3.1.5, with the CRLF. What is taken by code, enhanced code and CRLF is subtracted generously.
LINE_BYTES_MAX: Final = 512
_TEXT_BYTES_MAX: Final = LINE_BYTES_MAX - 32
#: A sentence that is longer is cut.
TEXT_BYTES_MAX: Final = 2048


class Reply(NamedTuple):
    """One reply: `Reply(250, "2.1.0", "sender ok")`. An empty `enhanced` is left out (RFC 2034 has none for 1yz, 3yz,
    the banner and the reply to EHLO)."""

    code: int
    enhanced: str
    text: str

    @property
    def accepts(self) -> bool:
        """2yz or 3yz."""
        return self.code < 400

    @property
    def octets(self) -> bytes:
        """As it is on the wire."""
        text = " ".join(_UNPRINTABLE.sub("?", self.text[:TEXT_BYTES_MAX]).split())
        return lines(
            self.code, self.enhanced, [text] if len(text) <= _TEXT_BYTES_MAX else wrap(text, _TEXT_BYTES_MAX)
        )


def lines(code: int, enhanced: str, texts: list[str]) -> bytes:
    """A reply of these lines, each of which is ASCII and short enough."""
    prefix = f"{enhanced} " if enhanced else ""
    said = [f"{code}-{prefix}{text}\r\n" for text in texts[:-1]]
    said.append(f"{code} {prefix}{texts[-1]}".rstrip() + "\r\n")
    return "".join(said).encode("ascii")


_UNPRINTABLE: Final = re.compile(r"[^\x20-\x7e\t\r\n]")

STOPPING: Final = Reply(421, "4.3.2", "the relay is stopping; come back in a moment")
TOO_MANY_CONNECTIONS: Final = Reply(421, "4.7.0", "too many connections; close some, or come back later")
TOO_MANY_OF_MEMBER: Final = Reply(
    421, "4.7.0", "your programs have half of all connections; close some, or come back later"
)
LOCKED_OUT: Final = Reply(
    421, "4.7.0", "too many wrong passwords from your address; come back in ten minutes with the right one"
)
TOO_SLOW: Final = Reply(421, "4.4.2", "nothing came in time; closing the connection")
GAVE_WAY: Final = Reply(421, "4.4.2", "you said nothing for some time, and others wait for your place")
NO_ROOM: Final = Reply(
    452, "4.3.1", "the relay holds as much unfinished mail as it can; try again in a minute"
)
DEFECT: Final = Reply(451, "4.3.0", "something went wrong in the relay; try again later")
DEFECT_ENDS: Final = Reply(421, "4.3.0", "something went wrong in the relay; closing the connection")
AUTHENTICATED: Final = Reply(235, "2.7.0", "welcome")
WRONG_CREDENTIALS: Final = Reply(535, "5.7.8", "user name or password is wrong")
