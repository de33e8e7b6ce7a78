"""The worst mails: headers, subjects, addresses, texts, and bounces of them. See `benchmarks.worst_inputs`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import trio

from benchmarks.search import Frame
from benchmarks.worst_kinds import Kind, Work
from benchmarks.worst_requests import LETTERS, read
from relay.addresses import INPUT_CHARACTERS_MAX
from relay.codec import Recorded
from relay.config_doors import HttpConfig
from relay.delivery.reply_reader import REPLY_BYTES_MAX
from relay.events import DsnQueued, MessageBounced, MessageQueued, Recipient, RemoteSide, SendAccepted
from relay.heavy_work import ON_LOOP_OCTETS_MAX, HeavyWork
from relay.message.headers import VALUE_OCTETS_MAX
from relay.message.outgoing import Composer
from relay.refusals import Refusal
from relay.requests import parse_send
from relay.views.messages import MessageState
from tests.world.relay import DID, DOMAIN, OPERATOR_DOMAIN

BODY_BYTES_MAX = HttpConfig().send_bytes_max

TIME_US = 1_790_000_000_000_000


class Mail:
    """Sends, as they are when they come back from the log."""

    def __init__(self, composer: Composer, heavy: HeavyWork) -> None:
        self._composer = composer
        self._heavy = heavy
        keyring = composer.keyring
        self._stem = keyring.path(DOMAIN, "x").parent.glob("*r.pem").__next__().name.removesuffix("r.pem")
        self._operator_stem = keyring.operator_stem(OPERATOR_DOMAIN)

    def compose(self, text: str) -> None:
        """For the first recipient, all of it."""
        made = self._made(text)
        if made is not None:
            self._composer.compose(made[0], made[1][0])

    def send(self, text: str) -> Work:
        """Read it, and compose it for all recipients, who are due at once."""
        work_at_body, made = read(self._heavy, text), self._made(text)
        if made is None:
            return work_at_body
        accepted, queued = made

        async def work() -> None:
            composer = self._fresh()
            await work_at_body()
            async with trio.open_nursery() as nursery:
                for item in queued:
                    log = {1: accepted, item.seq: item}
                    nursery.start_soon(self._outgoing, composer, _state(item.seq), log.__getitem__)

        return work

    def _fresh(self) -> Composer:
        """One that has met no send yet."""
        known = self._composer
        return Composer(known.keyring, known.unsubscribe, known.bounces, known.confirmations, lambda _: 1)

    def _made(self, text: str) -> tuple[Recorded, list[Recorded]] | None:
        try:
            request = parse_send(text.encode())
        except Refusal:
            return None
        accepted = SendAccepted(
            did=DID,
            domain=DOMAIN,
            category=request.category,
            recipients=len(request.recipients),
            key_id="k",
            selector_stem=self._stem,
            operator_domain=OPERATOR_DOMAIN,
            operator_stem=self._operator_stem,
            message_id_entropy="0" * 16,
            unsubscribe_base="https://relay.example",
            composition=2,
            size=len(text.encode()),
            personal=request.content,
        )
        queued = [
            MessageQueued(
                did=DID,
                domain=DOMAIN,
                category=request.category,
                index=index,
                next_attempt_at=TIME_US,
                give_up_at=TIME_US,
                personal=Recipient(given=given, name=mailbox.name, address=mailbox.address),
            )
            for index, (given, mailbox) in enumerate(request.recipients, 1)
        ]
        return Recorded(1, TIME_US, accepted), [Recorded(1 + event.index, TIME_US, event) for event in queued]

    async def _outgoing(
        self, composer: Composer, state: MessageState, get: Callable[[int], Recorded]
    ) -> None:
        """As `relay.delivery.attempts` does."""
        async with self._heavy.turn(state.did, 0) as do:
            gathered = composer.gather(state, get)
            octets = gathered.octets
            if octets <= ON_LOOP_OCTETS_MAX:
                await do(gathered.compose)
                composer.keep(gathered)
                return
        async with self._heavy.turn(state.did, octets) as do:
            gathered = composer.gather(state, get)
            await do(gathered.compose)
            composer.keep(gathered)

    # -------------------------------------------------------------- notifications

    def dsn(self) -> Kind:
        """Of a bounce whose reply, subject and headers were chosen to be slow."""

        def log_of(text: str) -> dict[int, Recorded]:
            request = self._made(self._with_subject(text))
            assert request is not None
            accepted, (queued, *_) = request
            remote = RemoteSide(text=text, mx="mx." + "a" * 200)
            bounced = MessageBounced(
                did=DID,
                message_id=2,
                attempt=1,
                reason="rejected",
                code=550,
                enhanced="5.1.1",
                personal=remote,
            )
            notice = DsnQueued(
                did=DID,
                domain=DOMAIN,
                about=2,
                next_attempt_at=TIME_US,
                give_up_at=TIME_US,
                operator_domain=OPERATOR_DOMAIN,
                operator_stem=self._operator_stem,
                message_id_entropy="0" * 16,
                composition=2,
                personal=Recipient(given="a@b.example", address="a@b.example"),
            )
            return {
                1: accepted,
                2: queued,
                3: Recorded(3, TIME_US, bounced),
                4: Recorded(4, TIME_US, notice),
            }

        def cost(text: str) -> None:
            self._composer.gather(_state(4, about=2), log_of(text).__getitem__).compose()

        def prepare(text: str) -> Work:
            log = log_of(text)
            return lambda: self._outgoing(self._fresh(), _state(4, about=2), log.__getitem__)

        pieces = ("a", " ", "é", "€", "😀", "\u202e", "=", "From ", "a ", "\t")
        return Kind("DSN", (Frame("550 ", pieces, ""),), REPLY_BYTES_MAX, cost, prepare, crowd=8)

    def _with_subject(self, text: str) -> str:
        subject = "".join(character for character in text[:4000] if character.isprintable())
        headers = {f"X-{number}": subject[:240] for number in range(50)}
        mail = {"from": f"you@{DOMAIN}", "to": "friend@example.com", "subject": subject, "text": "Hi"}
        return json.dumps({**mail, "headers": headers})


def _state(message_id: int, about: int | None = None) -> MessageState:
    return MessageState(
        message_id=message_id,
        did=DID,
        domain=DOMAIN,
        category="bulk",
        send_seq=message_id if about is not None else 1,
        status="queued",
        accepted_at=TIME_US,
        give_up_at=TIME_US,
        next_attempt_at=TIME_US,
        about=about,
    )


def of_mail(mail: Mail) -> Iterator[Kind]:
    crowd = json.dumps([f"friend{number}@d{number}.example" for number in range(50)])
    to_fifty = f'"from":"you@{DOMAIN}","to":{crowd}'
    values = ("a", " ", "é", "€", "😀", "\\t", "=?", "a ", "é ", "<", "@", ",")
    headers = ",".join(f'"X-{number}":"{{}}"' for number in range(50))

    def with_headers(text: str) -> str:
        """The same value in all of them."""
        return f'{{{to_fifty},"subject":"s","text":"t","headers":{{{headers.replace("{}", text)}}}}}'

    yield Kind(
        "header values",
        (Frame("", values, ""),),
        VALUE_OCTETS_MAX,
        lambda text: mail.compose(with_headers(text)),
        lambda text: mail.send(with_headers(text)),
    )
    yield Kind(
        "subject",
        (Frame(f'{{{to_fifty},"text":"t","subject":"', values, '"}'),),
        16_000,
        mail.compose,
        mail.send,
    )
    names = ("a", " ", "é", '\\"', ".", "@", "<", ">", ",", "(", "a.", "é.", "xn--", "-", "ß", "\\u200d", "क्")

    def with_addresses(text: str) -> str:
        to = ",".join(f'"{text}{number}@example.com"' for number in range(50))
        return f'{{"from":"you@{DOMAIN}","to":[{to}],"subject":"s","text":"t"}}'

    yield Kind(
        "addresses",
        (
            Frame("", names, ""),
            Frame('\\"', names, '\\" <a'),
            Frame("a@", names, ".a"),
        ),
        INPUT_CHARACTERS_MAX,
        lambda text: mail.compose(with_addresses(text)),
        lambda text: mail.send(with_addresses(text)),
    )
    yield Kind(
        "stored mail to compose",
        (
            Frame(f'{{{to_fifty},"subject":"s","text":"', LETTERS, '"}'),
            Frame(f'{{{to_fifty},"subject":"s","html":"', LETTERS, '","text":"é"}'),
        ),
        BODY_BYTES_MAX,
        mail.compose,
        mail.send,
    )
    yield Kind(
        "stored mail just under the thread's bar",
        (Frame(f'{{{to_fifty},"subject":"s","text":"', LETTERS, '"}'),),
        ON_LOOP_OCTETS_MAX,
        mail.compose,
        mail.send,
    )
