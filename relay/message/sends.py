"""What all recipients of a send share, and the sends that are kept while they are delivered.

A send's body is made and hashed once, whoever of its recipients comes first. How much is kept is bounded.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import starmap
from typing import Final, NamedTuple

import msgspec

from relay import events
from relay.addresses import Mailbox
from relay.codec import Recorded
from relay.events import SendAccepted
from relay.message.bodies import Body
from relay.message.canonical import body_hash
from relay.message.compose import Draft, Shared, shared_fields
from relay.message.fields_of import HeaderSection, header_of

#: How many sends a composer keeps, and how large their bodies may be together.
SENDS_KEPT_MAX: Final = 64
SENDS_KEPT_OCTETS_MAX: Final = 16 << 20


class Written(NamedTuple):
    """What a send in fields comes to, for all its recipients."""

    draft: Draft
    body: Body
    shared: Shared


class Send:
    """What all recipients of a send share. What takes long is made when first wanted, in whatever thread that is."""

    def __init__(self, accepted: Recorded) -> None:
        self.accepted = accepted
        assert isinstance(accepted.event, SendAccepted)
        assert accepted.event.personal is not None
        self.event: SendAccepted = accepted.event
        self.content: events.Content = accepted.event.personal

    def dated_at(self, scheduled_at: int | None) -> int:
        """What one of its messages has in its Date and `t=`: the time that its member had chosen when it was tried
        first, else when it was accepted."""
        return self.accepted.time_us if scheduled_at is None else scheduled_at

    @property
    def octets(self) -> int:
        """About as many as there are to compose."""
        content = self.content
        written = len(content.raw or content.text or "") + len(content.html or "")
        written += sum(len(one.content) for one in content.attachments)
        written += 0 if content.calendar is None else 2 * len(content.calendar.content)
        return max(written, self.event.size)  # old events do not say their size

    @property
    def first_message_id(self) -> int:
        """A send's messages stand right behind it."""
        return self.accepted.seq + 1

    @cached_property
    def written(self) -> Written:
        draft = _draft_of(self.content)
        shared = shared_fields(draft, self.event.composition)
        # The files are in the body from here on.
        return Written(draft._replace(attachments=(), calendar=None), draft.body(), shared)

    @cached_property
    def section(self) -> HeaderSection:
        """Of a message that came in whole."""
        assert self.content.raw is not None
        return header_of(self.content.raw)

    @cached_property
    def bh(self) -> bytes:
        """The hash of the body: one serves all recipients."""
        raw = self.content.raw
        return body_hash(self.written.body.octets if raw is None else raw[self.section.body_start :])

    def let_files_go(self) -> None:
        """Of what has been composed: its body has them."""
        if self.content.attachments:
            self.content = msgspec.structs.replace(self.content, attachments=[])
            self.event = msgspec.structs.replace(self.event, personal=self.content)
            self.accepted = self.accepted._replace(event=self.event)

    @property
    def size(self) -> int:
        """What it holds in memory, once its files are let go."""
        raw = self.content.raw
        return len(self.written.body.octets) if raw is None else len(raw)


class Sends:
    """Sends that are being delivered, the last ones, so that a body is not made and hashed for every recipient."""

    def __init__(self) -> None:
        self._by_seq: dict[int, Send] = {}
        self._octets = 0

    def get(self, seq: int) -> Send | None:
        send = self._by_seq.pop(seq, None)
        if send is not None:
            self._by_seq[seq] = send  # to the end: the one unused for longest goes first
        return send

    def keep(self, send: Send) -> None:
        """Of a send to one there is nothing to share, and one that would displace all others is not worth it."""
        size = send.size
        if send.event.recipients == 1 or size > SENDS_KEPT_OCTETS_MAX or send.accepted.seq in self._by_seq:
            return
        send.let_files_go()
        self._by_seq[send.accepted.seq] = send
        self._octets += size
        while self._octets > SENDS_KEPT_OCTETS_MAX or len(self._by_seq) > SENDS_KEPT_MAX:
            oldest = self._by_seq.pop(next(iter(self._by_seq)))
            self._octets -= oldest.size


def _draft_of(content: events.Content) -> Draft:
    return Draft(
        sender=Mailbox.recorded(content.from_name, content.from_address),
        subject=content.subject,
        text=content.text,
        html=content.html,
        reply_to=_recorded(content.reply_to),
        headers=tuple(content.headers),
        to_shown=_recorded(content.to_shown),
        cc=_recorded(content.cc),
        attachments=tuple(content.attachments),
        calendar=content.calendar,
    )


def _recorded(mailboxes: Sequence[tuple[str, str]]) -> tuple[Mailbox, ...]:
    return tuple(starmap(Mailbox.recorded, mailboxes))
