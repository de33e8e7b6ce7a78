"""Looks for what may be tokens of ours in the mail that a report encloses or quotes.

The contract. `tokens_in` gives back at most TOKENS_MAX words, each once, that have the shape of a token
(`relay.message.tokens`), in lower case: first the values of X-Atmos-Message, which composing puts into every message
for that purpose, then local parts of envelope senders, which stand in Return-Path, Original-Mail-From, Received and in
the text of reports. None of them is proved: whoever holds the key opens them. The mail's own header is not looked at.
"""

from __future__ import annotations

import re
from itertools import islice
from typing import Final

from relay.mail_reading import TOKENS_MAX
from relay.reports.parts import Mail

#: Looked at in one part; most say the same.
_MATCHES_MAX: Final = 200
_TOKEN: Final = r"([1-9][0-9]{0,15}-[a-z2-7]{16})(?![a-z0-9])"
_FIELD: Final = re.compile(rf"X-Atmos-Message[ \t]{{0,8}}:[ \t\n]{{0,8}}<?{_TOKEN}".encode(), re.IGNORECASE)
#: A plus as it stands, or as URLs, quoted-printable and pages of HTML write it.
_LOCAL_PART: Final = re.compile(
    rf"(?<![a-z0-9.])(bounces|forward)(?:\+|%2B|=2B|&#43;){_TOKEN}".encode(), re.IGNORECASE
)


def tokens_in(mail: Mail) -> tuple[str, ...]:
    values: dict[str, None] = {}
    local_parts: dict[str, None] = {}
    for part in mail.parts:
        for match in islice(_FIELD.finditer(part.body), _MATCHES_MAX):
            values[match[1].decode().lower()] = None
        for match in islice(_LOCAL_PART.finditer(part.body), _MATCHES_MAX):
            local_parts[f"{match[1].decode()}+{match[2].decode()}".lower()] = None
    return tuple([*values, *local_parts][:TOKENS_MAX])
