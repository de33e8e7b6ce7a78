"""Hypothesis strategies for everything that the relay accepts, with a liking for what breaks mail."""

import re

from hypothesis import strategies as st

from relay.addresses import FORBIDDEN, AddressError, Mailbox, parse_mailbox
from relay.message.compose import Draft
from relay.message.headers import HeaderError, check_headers

ATEXT = "abcXYZ019!#$%&'*+/=?^_`{|}~-"
TROUBLE = [
    "=?utf-8?q?x?=",
    "=?",
    "?=",
    '"',
    "\\",
    "<",
    ">",
    "(",
    ")",
    ",",
    ";",
    ":",
    "@",
    ".",
    "..",
    " ",
    "  ",
    "\t",
]

#: Text of a header: a line without control characters.
lines = st.lists(
    st.one_of(
        st.sampled_from([*TROUBLE, "x" * 80, "word", "é", "日本語", "🙂", "e\u0301", "\u202e", "\xa0"]),
        st.text(max_size=12).filter(lambda text: FORBIDDEN.search(text) is None),
    ),
    max_size=12,
).map("".join)

#: Text of a body: any Unicode but NUL and lone surrogates, any line ends.
bodies = (
    st.lists(
        st.one_of(
            st.sampled_from(
                ["From me", "From ", ".", "\n", "\r\n", "\r", " ", "\t", "--", "--=_", "=", "=46rom", "-- \n"]
            ),
            st.sampled_from(
                ["x" * 76, "x" * 998, "x" * 999, "é" * 50, "日本語\n", "\x0b", "\x1b[0m", "\x7f", "\u2028"]
            ),
            st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30),
        ),
        min_size=1,
        max_size=12,
    )
    .map("".join)
    .filter(bool)
)

_ascii_locals = st.lists(st.text(ATEXT, min_size=1, max_size=12), min_size=1, max_size=4).map(".".join)
_utf8_locals = st.text(st.sampled_from("aé日🙂."), min_size=1, max_size=12)
_domains = st.sampled_from(
    [
        "a.example",
        "mail.sub.member.example",
        "BÜCHER.example",
        "xn--bcher-kva.example",
        "1.2.example",
        "例え.テスト",
    ]
)


def _mailbox(name: str, local: str, domain: str) -> Mailbox | None:
    escaped = re.sub(r'(["\\])', r"\\\1", name)
    try:
        return parse_mailbox(f'"{escaped}" <{local}@{domain}>')
    except AddressError:
        return None


def mailboxes(*, smtputf8: bool = True) -> st.SearchStrategy[Mailbox]:
    local_parts = st.one_of(_ascii_locals, _utf8_locals) if smtputf8 else _ascii_locals
    made = st.builds(_mailbox, lines, local_parts, _domains)
    return made.filter(lambda mailbox: mailbox is not None)  # type: ignore[return-value]


def _legal(headers: list[tuple[str, str]]) -> bool:
    try:
        check_headers(headers, subject="")
    except HeaderError:
        return False
    return True


_names = st.one_of(
    st.sampled_from(["X-Campaign", "Precedence", "List-Id", "Auto-Submitted", "X-" + "Long" * 18]),
    st.text(ATEXT, min_size=1, max_size=20),
)
_identifiers = st.lists(_ascii_locals.map("<{}@member.example>".format), min_size=1, max_size=12).map(
    " ".join
)
_headers = st.one_of(
    st.tuples(_names, lines),
    st.tuples(st.sampled_from(["In-Reply-To", "References"]), _identifiers),
    st.tuples(
        st.just("List-Unsubscribe"), st.just("<mailto:off@member.example>, <https://member.example/off>")
    ),
)


@st.composite
def contents(draw: st.DrawFn) -> Draft:
    text, html = draw(
        st.one_of(
            st.tuples(bodies, st.none()),
            st.tuples(st.none(), bodies),
            st.tuples(bodies, bodies),
        )
    )
    return Draft(
        sender=draw(mailboxes()),
        subject=draw(lines),
        text=text,
        html=html,
        reply_to=draw(st.none() | mailboxes()),
        headers=tuple(draw(st.lists(_headers, max_size=6).filter(_legal))),
    )
