"""Texts of people who want a page to do something: markup, script, and characters that turn text around.

Each carries `MARK`, by which a test finds where it stands; a page that lets one through has an element of the class
`OWNED`, or has run a script that sets `window.owned`.
"""

from __future__ import annotations

from typing import Final

MARK: Final = "HOSTILE"
OWNED: Final = "owned"
_SET: Final = "window.owned=1"
#: Closes whatever it may stand in, and opens what runs.
MARKUP: Final = (
    f"{MARK}\"'></title></textarea></style></script></pre></iframe>"
    f'<script>{_SET}</script><img src=x class={OWNED} onerror="{_SET}"><b class={OWNED}>bold</b>'
    f'{{{{7*7}}}}{{%raw%}}<a class={OWNED} href="javascript:{_SET}">x</a>'
)
#: Right-to-left override, isolates, zero width, the letters of another alphabet.
BIDI: Final = f"{MARK}\u202egnp.exe\u202c \u2066\u2067\u2069 a\u200bb\u200d раураl"
TEXT: Final = f"{MARKUP} {BIDI}"
#: What a receiver may say: ASCII, one line, less than 512 octets.
HOSTILE_REPLY: Final = MARKUP[:480]
#: All that an address may have of this: no quoted local part is taken.
RECIPIENT: Final = MARK + "'{{7*7}}&lt|b@hostile.example"
