"""What passes between the core and a courier is the same on the other side, whatever receivers and errors said."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from relay.delivery.outcomes import AttemptOutcome, Carried, NotTried, Peer, TlsInfo
from relay.delivery.replies import Failure, FailureKind
from relay.delivery.reply_reader import Command, SmtpReply

_TEXTS = st.text(max_size=60)
_STATUSES = st.none() | st.from_regex(r"\A[245]\.\d{1,3}\.\d{1,3}\Z")
_COMMANDS = st.sampled_from(Command)
_FAILURES = st.builds(Failure, st.sampled_from(FailureKind), _TEXTS, st.none() | _COMMANDS)
#: That decide something: a 2xx does so only after the dot.
_REFUSALS = st.builds(
    SmtpReply, _COMMANDS, st.integers(400, 559), _STATUSES, st.lists(_TEXTS, max_size=5).map(tuple)
)
_ACCEPTED = st.builds(
    SmtpReply,
    st.just(Command.END_OF_DATA),
    st.integers(200, 299),
    _STATUSES,
    st.lists(_TEXTS, max_size=5).map(tuple),
)


@st.composite
def _outcomes(draw: st.DrawFn) -> AttemptOutcome:
    flags = st.booleans()
    return AttemptOutcome.of(
        draw(_FAILURES | _REFUSALS | _ACCEPTED),
        reused=draw(flags),
        tls_refused=draw(flags),
        started=draw(flags),
        body_begun=draw(flags),
    )


_CARRIED = st.one_of(
    st.builds(Carried, st.booleans(), st.sampled_from(NotTried)),
    st.builds(
        Carried,
        st.booleans(),
        outcome=_outcomes(),
        peer=st.none() | st.builds(Peer, _TEXTS, _TEXTS, st.integers(1, 65535)),
        tls=st.none() | st.builds(TlsInfo, _TEXTS, _TEXTS, _TEXTS),
        sha256=st.none() | st.binary(min_size=32, max_size=32).map(bytes.hex),
        size=st.none() | st.integers(0, 1 << 40),
        seconds=st.floats(0, 1e6),
    ),
)


@given(_CARRIED)
def test_what_came_of_an_errand(carried: Carried) -> None:
    there = msgspec.msgpack.decode(msgspec.msgpack.encode(carried), type=Carried)
    assert there == carried
    assert type(there) is Carried
    if carried.outcome is None:
        return
    # What is derived from it, too: the core judges the site, classifies and records by these.
    assert there.outcome is not None
    assert type(there.outcome.said) is type(carried.outcome.said)
    assert there.outcome.verdict is carried.outcome.verdict
    assert there.outcome.command is carried.outcome.command
    assert there.outcome.enhanced == carried.outcome.enhanced
    assert there.outcome.error == carried.outcome.error
