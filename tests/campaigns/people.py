"""The people of one simulated relay: members that send, read and suppress, and an operator who gives orders.

They know what people know of a relay: its answers, and where none came, nothing. A request with a key is made again
until somebody answers. Whatever they are told goes into the `Ledger`, by which the relay is judged.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Collection
from contextlib import suppress
from functools import partial
from typing import Any

import msgspec
import trio

from relay.events import NOBODY
from relay.mail_reading import Reading
from relay.message.tokens import Unsubscribe
from relay.operator.retention import strip
from relay.refusals import Refusal
from relay.views import due
from spool.errors import SpoolError
from tests.campaigns.schedulers import Schedulers, choose_time, converse
from tests.campaigns.sites import HOST, INSIDE
from tests.world.asgi import call
from tests.world.inbound_log import GONE, incoming
from tests.world.internet import DAY, HOUR, MINUTE
from tests.world.ledger import Answer, Ledger, SendRequest
from tests.world.machine import Machine
from tests.world.relay import World
from tests.world.reporting import came, complain, receive, report

MEMBERS = {f"did:plc:{letter * 24}": f"{name}.example" for letter, name in (("a", "forum"), ("b", "shop"))}
RECIPIENT_DOMAINS = ("one.example", "two.example", "three.example")
MAILBOXES = tuple(f"person{number}@{domain}" for number in range(4) for domain in RECIPIENT_DOMAINS)
#: What tells of the relay.
LISTED = msgspec.structs.replace(GONE, bounce_class="spam_block", enhanced="5.7.1")
CATEGORIES = ("bulk", "broadcast", "transactional", "login-link", "verification")
#: While there is trouble, they are busy.
TROUBLE_SECONDS = 3 * HOUR
#: Where domains are verified, whose time is counted in days, quieter days follow before the world is healed.
DAYS_SECONDS = 6 * DAY


def pace() -> float:
    """How many times as long everything takes that happens now and then."""
    return 1.0 if trio.current_time() < TROUBLE_SECONDS else 24.0


class People:
    def __init__(
        self,
        machine: Machine,
        faults: Collection[str],
        dice: random.Random,
        *,
        seed: int,
        breaches: list[str],
    ) -> None:
        self.ledger = Ledger()
        self.credentials: dict[str, dict[str, str]] = {}
        #: All that members have planned is done.
        self.done = trio.Event()
        #: The trouble is over: nobody begins anything new.
        self.is_over = False
        self._machine = machine
        self._faults = faults
        self._dice = dice
        self._seed = seed
        self._breaches = breaches
        #: Message ids that clients were told, with whose they are.
        self._known: list[tuple[str, int, str]] = []
        self._schedulers = Schedulers(
            machine,
            self.ledger,
            self.open_path,
            self.credentials,
            self._known,
            breaches,
            keeps_time="clock" not in faults,
        )

    async def live(self) -> None:
        moments = [self._dice.uniform(0, TROUBLE_SECONDS) for _ in range(self._dice.randint(7, 17))]
        if "crowd" in self._faults:
            moment = self._dice.uniform(0, TROUBLE_SECONDS)
            moments += [moment + self._dice.choice((0.0, 0.0, 0.01)) for _ in range(6)]
        if "verification" in self._faults:
            moments += [self._dice.uniform(TROUBLE_SECONDS, DAYS_SECONDS) for _ in range(12)]
        async with trio.open_nursery() as nursery:
            for number, moment in enumerate(moments):
                nursery.start_soon(self._client, number, moment)
            if "batches" in self._faults:
                for number in range(self._dice.randint(1, 3)):
                    nursery.start_soon(self._batch, number, self._dice.uniform(0, TROUBLE_SECONDS))
            for kind, deed, minutes in (
                ("suppressions", self._suppress, 15),
                ("pauses", self._pause, 20),
                ("reputation", self._forgive, 10),
                ("orders", self._order, 3),
                ("limits", self._set_limits, 15),
                ("erasures", self._erase, 10),
                ("calls", self._unsubscribe, 6),
                ("reports", self._hand_in, 8),
                ("schedules", self._schedulers.change_mind, 4),
            ):
                if kind in self._faults:
                    nursery.start_soon(self._do_often, kind, deed, minutes)
        self.done.set()

    async def _client(self, number: int, moment: float) -> None:
        """One send: asked again, with its key, for as long as nobody has answered; and later once more."""
        dice = random.Random(f"client {self._seed} {number}")
        request = self._make_request(number, dice, dice.choice(list(MEMBERS)), moment)
        self.ledger.requests.append(request)
        await trio.sleep_until(moment)
        if request.key is not None and dice.random() < 0.3:
            async with trio.open_nursery() as twins:  # two at the same instant
                twins.start_soon(self._post, request, dice)
                twins.start_soon(self._post, request, dice)
        for _ in range(5):
            settled = await self._post(request, dice)
            if settled or request.key is None:
                break
            await trio.sleep(dice.choice((1.0, 20.0, 300.0)))
        if "schedules" in self._faults:
            await self._schedulers.think_better(request, dice)
        if request.key is not None and dice.random() < 0.5:
            await trio.sleep(dice.uniform(0, HOUR))
            await self._post(request, dice)
            await self._post_another_body(request, dice)

    async def _batch(self, number: int, moment: float) -> None:
        """Several in one request, and again as a whole for as long as one of them has no answer."""
        dice = random.Random(f"batch {self._seed} {number}")
        did, first = dice.choice(list(MEMBERS)), 3000 + 10 * number
        requests = [self._make_request(first + each, dice, did, moment) for each in range(dice.randint(1, 4))]
        key = f"batch {number}" if dice.random() < 0.7 else None
        for each, request in enumerate(requests):
            request.key = None if key is None else f"{key}, {each}"
        self.ledger.requests += requests
        await trio.sleep_until(moment)
        for _ in range(5):
            patience = dice.choice((0.001, 1.0, 30.0)) if "hang-ups" in self._faults else 30.0
            settled = await self._schedulers.post_batch(requests, key, patience)
            if key is None or (settled and dice.random() < 0.5):
                return
            await trio.sleep(dice.choice((1.0, 20.0, 300.0)))

    def _make_request(self, number: int, dice: random.Random, did: str, moment: float) -> SendRequest:
        domain = MEMBERS[did]
        recipients = dice.sample(MAILBOXES, dice.choice((1, 1, 1, 2, 3)))
        mail = {
            "from": f"hello@{domain}",
            "to": recipients,
            "subject": f"request {number}",
            "text": "word " * dice.choice((1, 100, 700)),
            "category": dice.choice(CATEGORIES),
        }
        if "calls" in self._faults and mail["category"] in ("bulk", "broadcast"):
            host = dice.choice((HOST, HOST, HOST, INSIDE))
            mail["headers"] = {"List-Unsubscribe": f"<https://{host}/off?n={number}>"}
        key = f"key {number}" if "keys" in self._faults and dice.random() < 0.7 else None
        scheduled_at = None
        if "schedules" in self._faults:
            scheduled_at = choose_time(mail, moment, dice)
            converse(mail, recipients, dice)
        body = json.dumps(mail).encode()
        return SendRequest(number, did, domain, recipients, body, key, scheduled_at)

    async def _post(self, request: SendRequest, dice: random.Random) -> bool:
        """Whether the answer leaves nothing open."""
        patience = dice.choice((0.001, 1.0, 30.0)) if "hang-ups" in self._faults else 30.0
        answer = await self._machine.ask(
            lambda world: self._http(world, "POST", "/v1/send", request, patience)
        )
        if answer is None or (answer.status == 503 and answer.code != "QUEUE_FULL") or answer.status == 408:
            request.unknown += 1
            return False
        request.answers.append(answer)
        if answer.status == 200:
            for item in json.loads(answer.body)["accepted"]:
                self._known.append((request.did, item["messageId"], item["recipient"]))
                await self._read_back(request, item["messageId"])
        return True

    async def _read_back(self, request: SendRequest, message_id: int) -> None:
        """What was acknowledged can be read at once."""
        answer = await self._machine.ask(
            lambda world: self._http(world, "GET", f"/v1/messages/{message_id}", request, 30.0)
        )
        if answer is not None and answer.status != 200:
            self._breaches.append(
                f"message {message_id} was acknowledged and cannot be read ({answer.status})"
            )

    async def _post_another_body(self, request: SendRequest, dice: random.Random) -> None:
        """The same key for another mail: a conflict, unless its 24 hours are over or it was never used."""
        other = SendRequest(
            1000 + request.number,
            request.did,
            request.domain,
            request.recipients,
            request.body.replace(b"request ", b"request 100" if request.number < 10 else b"request 10"),
            request.key,
        )
        self.ledger.requests.append(other)
        await self._post(other, dice)

    async def _http(
        self, world: World, method: str, path: str, request: SendRequest, patience: float
    ) -> Answer | None:
        headers = {"Content-Type": "application/json", **self.credentials[request.did]}
        if request.key is not None:
            headers["Idempotency-Key"] = request.key
        return await self.open_path(
            world, method, path, headers, request.body if method == "POST" else b"", patience
        )

    async def open_path(
        self,
        world: World,
        method: str,
        path: str,
        headers: dict[str, str],
        body: bytes = b"",
        patience: float = 30.0,
    ) -> Answer | None:
        with trio.move_on_after(patience):
            answer = await call(world.app, method, path, headers, body)
            store = world.core.store
            return Answer(*answer, store.now_us(), store.last_seq)
        return None

    async def follow(self, did: str) -> None:
        """A member that reads on, now and then, from where it was."""
        dice = random.Random(f"{did} follows {self._seed}")
        while not self.is_over:
            await trio.sleep(dice.expovariate(1 / (30 * MINUTE * pace())))
            await self.read_page(did, dice.randint(1, 30))

    async def read_page(self, did: str, limit: int) -> int:
        """How many events came."""
        followed = self.ledger.followed.setdefault(did, [])
        count = len(followed)
        path = f"/v1/events?cursor={followed[-1][0] if followed else 0}&limit={limit}"
        answer = await self._machine.ask(
            lambda world: self.open_path(world, "GET", path, self.credentials[did])
        )
        if answer is None:
            return 0
        if answer.status != 200:
            self._breaches.append(f"{path} was answered {answer.status}: {answer.code}")
            return 0
        if len(followed) != count:
            return 1  # somebody else has read this page meanwhile
        events = json.loads(answer.body)["events"]
        followed += [(event["seq"], event["type"]) for event in events]
        return len(events)

    async def _do_often(self, kind: str, deed: Callable[[random.Random], Any], minutes: float) -> None:
        dice = random.Random(f"{kind} {self._seed}")
        while True:
            await trio.sleep(dice.expovariate(1 / (minutes * MINUTE * pace())))
            if self.is_over:
                return
            await deed(dice)

    async def _suppress(self, dice: random.Random) -> None:
        did = dice.choice(list(MEMBERS))
        address = dice.choice(MAILBOXES)
        headers = {"Content-Type": "application/json", **self.credentials[did]}
        match dice.choice(("post", "delete", "click", "complaint")):
            case "post":
                body = json.dumps({"recipient": address}).encode()
                path = "/v1/suppressions"
                answer = await self._machine.ask(
                    lambda world: self.open_path(world, "POST", path, headers, body)
                )
                if answer is not None and answer.status in (200, 201):
                    self.ledger.suppressed.append((did, address))
            case "delete" if self.ledger.suppressed:
                did, address = dice.choice(self.ledger.suppressed)
                headers = self.credentials[did]
                path = f"/v1/suppressions/{address}"
                await self._machine.ask(lambda world: self.open_path(world, "DELETE", path, headers))
            case "click" if self._known:
                did, message_id, recipient = dice.choice(self._known)
                await self._click(Unsubscribe(did, message_id, recipient))
            case "complaint" if self._known:
                did, message_id, recipient = dice.choice(self._known)
                answer = await self.command("complaint_record", message=message_id)
                # Of a message whose personal data are gone nobody knows the address any more.
                if answer is not None and "recipient.suppressed" in answer["recorded"]:
                    self.ledger.suppressed.append((did, recipient))

    async def _hand_in(self, dice: random.Random) -> None:
        """A receiver reports, or a stranger writes, and hands it in again for as long as nobody has said 250; and once
        more, because it did not hear it."""
        raw = f"Subject: of {trio.current_time()}\r\n\r\n{dice.random()}\r\n".encode()
        if not self._known or dice.random() < 0.3:
            did, domain = dice.choice([*MEMBERS.items(), (NOBODY, "relay.example")])
            kind, sender = ("reply" if did else "operator"), dice.choice(("", *MAILBOXES))
            digest = hashlib.sha256(raw).hexdigest()
            mail = incoming(
                kind=kind, did=did, domain=domain, mail_from=sender, raw=raw, sha256=digest, digest=digest
            )
            deed: Callable[[World], Any] = partial(receive, mail=mail, to_address=dice.choice(MAILBOXES))
            said = partial(self.ledger.passed_on.append, digest)
        else:
            _, message_id, _ = dice.choice(self._known)
            reading = dice.choice((GONE, GONE, GONE, LISTED, Reading(), None))
            if reading is None:
                provider = dice.choice((None, "yahoo.com"))
                deed = partial(complain, message_id=message_id, provider=provider, raw=raw)
            else:
                deed = partial(report, message_id=message_id, reading=reading, raw=raw)
            said = partial(self.ledger.reported.append, (message_id, came(raw).sha256))

        async def hand_in(world: World) -> bool:
            with suppress(SpoolError, OSError):
                await deed(world)
                return self._machine.world is world  # else it was said by a dead process
            return False

        for again in (False, False, True):
            if await self._machine.ask(hand_in) and not again:
                said()
            await trio.sleep(dice.choice((0.0, 1.0, 60.0)))

    async def _unsubscribe(self, dice: random.Random) -> None:
        if self._known:
            did, message_id, recipient = dice.choice(self._known)
            await self._click(Unsubscribe(did, message_id, recipient))

    async def _click(self, link: Unsubscribe) -> None:
        async def click(world: World) -> Answer | None:
            path = f"/u/{world.core.composer.unsubscribe.seal(link)}"
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            return await self.open_path(world, "POST", path, headers, b"List-Unsubscribe=One-Click")

        answer = await self._machine.ask(click)
        if answer is not None and answer.status == 200:
            self.ledger.suppressed.append((link.did, link.recipient))

    async def _pause(self, dice: random.Random) -> None:
        """A domain, a member, or one and then the other; for a while, because of the paused nothing is accepted."""
        did, domain = dice.choice(list(MEMBERS.items()))
        orders = [
            ("domain_pause", "domain_resume", {"domain": domain}),
            ("member_suspend", "member_resume", {}),
        ]
        orders = dice.sample(orders, dice.choice((1, 1, 2)))
        for pause, _, what in orders:
            await self.command(pause, did=did, **what)
            await trio.sleep(dice.expovariate(1 / (dice.choice((1, 10)) * MINUTE * pace())))
        for _, resume, what in orders:
            # Where nobody answers, because the relay is down or its disk is full, it is ordered again.
            while True:
                answer = await self.command(resume, did=did, **what)
                await trio.sleep(dice.expovariate(1 / MINUTE))
                if answer is not None or self.is_over:
                    break

    async def _forgive(self, dice: random.Random) -> None:
        """Whoever was paused for his reputation, by now."""
        did, domain = dice.choice(list(MEMBERS.items()))
        await self.command("domain_resume", did=did, domain=domain)

    async def _set_limits(self, dice: random.Random) -> None:
        hour = dice.choice((None, 0, 2, 8))
        day = None if hour is None else hour + 5
        await self.command("member_limits", did=dice.choice(list(MEMBERS)), hour=hour, day=day)

    async def _order(self, dice: random.Random) -> None:
        message_id = await self._machine.ask(partial(self._one_that_waits, dice))
        if message_id is None:
            return
        command = dice.choice(("queue_hold", "queue_hold", "queue_release", "queue_cancel", "queue_flush"))
        answer = await self.command(command, message=[message_id], reason="trouble")
        if answer is not None and answer["done"]["count"]:
            if command == "queue_hold":
                self.ledger.held.append(message_id)
            elif command == "queue_cancel":
                self.ledger.cancelled.append(message_id)

    async def _erase(self, dice: random.Random) -> None:
        """By order, or for its age: of whole days, which the relay counts by, the trouble has none."""
        match dice.choice(("message", "message", "recipient", "age", "age")):
            case "message" if self._known:
                _, message_id, _ = dice.choice(self._known)
                await self._erase_by_order([message_id], message=message_id)
            case "recipient" if self._known:
                did, _, address = dice.choice(self._known)
                await self._erase_by_order([], recipient=address, did=dice.choice((did, None)))
            case "age":
                await self._machine.ask(partial(self._strip, dice.choice((0, 0, 1))))

    async def _erase_by_order(self, message_ids: list[int], **what: Any) -> None:
        async def carry_out(world: World) -> None:
            with suppress(Refusal, SpoolError, OSError):
                await world.command("log_erase", reason="trouble", **what)
                if self._machine.world is world:  # else it was said by a dead process
                    last_seq = world.core.store.last_seq
                    self.ledger.erased += [(message_id, last_seq) for message_id in message_ids]

        await self._machine.ask(carry_out)

    async def _strip(self, days: int, world: World) -> None:
        with suppress(SpoolError, OSError):
            await strip(world.core, days)

    async def _one_that_waits(self, dice: random.Random, world: World) -> int | None:
        with world.core.store.read() as view:
            ids = [waiting.message_id for waiting in due.waiting_after(view, 0)]
        return dice.choice(ids) if ids else None

    async def command(self, name: str, **arguments: Any) -> Any:
        """The operator's command; None where it was refused or nobody knows."""

        async def carry_out(world: World) -> Any:
            try:
                return await world.command(name, **arguments)
            except (Refusal, SpoolError):
                return None

        return await self._machine.ask(carry_out)
