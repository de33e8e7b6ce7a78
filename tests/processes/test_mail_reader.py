"""Mail is read by a child and in process alike, keys come from the relay's resolver, and hostile mail costs itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from relay.mail_reading import SIGNATURES_MAX, NotReadNow, Reading, Signature
from relay.processes import child as child_module
from relay.processes.child import open_child
from relay.processes.mail_reader import (
    ASKED_MAX,
    DNS_SECONDS_MAX,
    PROGRAM,
    READ_SECONDS_MAX,
    MailReader,
    in_process,
    open_mail_reader,
)
from relay.reports.read import read_mail
from tests.message.test_verifying import record, sign
from tests.world.dns import FakeDns

DSN = b"""\
From: mailer-daemon@mx.example\r
To: bounces+7-abc@relay.example\r
Content-Type: multipart/report; report-type=delivery-status; boundary=x\r
\r
--x\r
Content-Type: text/plain\r
\r
Sorry.\r
--x\r
Content-Type: message/delivery-status\r
\r
Reporting-MTA: dns; mx.example\r
\r
Final-Recipient: rfc822; bob@mx.example\r
Action: failed\r
Status: 5.1.1\r
Diagnostic-Code: smtp; 550 5.1.1 no such user\r
--x--\r
"""
NOW_US = 2_000_000_000_000_000
ONE = Signature("one.example", "s1")


def clock() -> int:
    return NOW_US


def dns(**names: bytes) -> FakeDns:
    """`s1=record` is the key s1 of one.example."""
    return FakeDns(
        txt={f"{name}._domainkey.one.example": [(key[:100], key[100:])] for name, key in names.items()}
    )


@asynccontextmanager
async def opened(kind: str, resolver: Any) -> AsyncIterator[MailReader]:
    if kind == "in process":
        yield in_process(resolver, clock)
    else:
        async with open_mail_reader(resolver, clock) as reader:
            await reader.read(b"", None)  # ready
            yield reader


def run(main: Callable[[], Any], clock: MockClock | None = None) -> None:
    async def bounded() -> None:
        with trio.fail_after(120):
            await main()

    trio.run(bounded, clock=clock)


@pytest.mark.parametrize("kind", ["child", "in process"])
def test_it_reads_and_says_who_has_signed(kind: str) -> None:
    async def main() -> None:
        signed = sign(DSN)
        async with opened(kind, dns(s1=record())) as reader:
            reading = await reader.read(signed, "a")
            assert reading == read_mail(signed)
            assert (reading.kind, reading.action, reading.enhanced) == ("dsn", "failed", "5.1.1")
            assert reading.signatures == (ONE,)
            assert await reader.signed_by(signed, reading.signatures, "a") == ("one.example",)
            assert await reader.signed_by(signed + b"more", reading.signatures, "a") == ()
            assert await reader.signed_by(signed, (), "a") == ()

    run(main)


@pytest.mark.parametrize(
    "signature",
    [
        Signature("one.example", "s2"),
        Signature("broken.example", "s1"),
        Signature("one.example", "s1."),
        Signature("one..example", "s1"),
        Signature("one.example", "s\\046"),
        Signature("one.example", "s1 x"),
        Signature("x" * 300, "s1"),
        Signature("one.example", ""),
        Signature("önë.example", "s1"),
    ],
)
def test_a_key_that_is_not_there_is_nobodys(signature: Signature) -> None:
    async def main() -> None:
        resolver = dns(s1=record())
        resolver.broken.add("s1._domainkey.broken.example")
        async with opened("in process", resolver) as reader:
            assert await reader.signed_by(sign(DSN), (signature,), None) == ()
            assert await reader.signed_by(sign(DSN), (signature, ONE), None) == ("one.example",)

    run(main)


def test_one_of_several_keys_is_none() -> None:
    async def main() -> None:
        resolver = dns(s1=record())
        resolver.txt["s1._domainkey.one.example"].append((b"v=DKIM1; p=",))
        async with opened("in process", resolver) as reader:
            assert await reader.signed_by(sign(DSN), (ONE,), None) == ()

    run(main)


class SlowDns(FakeDns):
    async def lookup_txt(self, name: str) -> list[tuple[bytes, ...]]:
        if name.startswith("slow"):
            await trio.sleep_forever()
        return await super().lookup_txt(name)


def test_slow_name_servers_and_many_signatures_are_bounded() -> None:
    async def main() -> None:
        resolver = SlowDns(txt=dns(s1=record()).txt)
        reader = in_process(resolver, clock)
        slow = [Signature("one.example", f"slow{number}") for number in range(SIGNATURES_MAX - 1)]
        began = trio.current_time()
        assert await reader.signed_by(sign(DSN), [*slow, ONE], None) == ("one.example",)
        assert trio.current_time() - began == pytest.approx(DNS_SECONDS_MAX, abs=0.1)
        assert await reader.signed_by(sign(DSN), [*slow, Signature("a.example", "b"), ONE], None) == ()

    run(main, MockClock(autojump_threshold=0))


#: Each of 11 MB, and each takes dkimpy or memory far more than there is.
HOSTILE = {
    "spaces": sign(DSN)[: sign(DSN).index(b"\r\n\r\n") + 4] + b" " * 11_000_000,
    "empty lines": sign(DSN)[: sign(DSN).index(b"\r\n\r\n") + 4] + b"\r\n" * 5_500_000 + b"x",
    "one header": b"DKIM-Signature: d=one.example; s=s1; h=" + b" " * 11_000_000,
    "many headers": b"DKIM-Signature: d=one.example; s=s1; b=\r\n" * 250_000,
    "parts": b"Content-Type: multipart/mixed; boundary=x\r\n\r\n" + b"--x\r\n\r\n" * 1_300_000,
    "nesting": b"Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n" * 200_000,
    "zeros": bytes(11_000_000),
    "colons": b":" * 11_000_000,
}


@pytest.mark.parametrize("mail", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_mail_takes_its_time_and_the_next_is_read(mail: bytes) -> None:
    async def main() -> None:
        async with opened("child", dns(s1=record())) as reader:
            began = time.monotonic()
            assert isinstance(await reader.read(mail, "a"), Reading)
            assert await reader.signed_by(mail, [ONE], "a") == ()
            assert time.monotonic() - began < 2 * ASKED_MAX * READ_SECONDS_MAX
            signed = sign(DSN)
            assert (await reader.read(signed, "b")).kind == "dsn"
            assert await reader.signed_by(signed, [ONE], "b") == ("one.example",)

    run(main)


def test_a_large_mail_with_several_signatures_fits() -> None:
    async def main() -> None:
        mail = DSN + b"x" * 70 + (b"\r\n" + b"y" * 76) * 140_000
        for _ in range(4):
            mail = sign(mail, canonicalize=(b"relaxed", b"relaxed"))
        async with opened("child", dns(s1=record())) as reader:
            assert await reader.signed_by(mail, [ONE], "a") == ("one.example",)
            assert (await reader.read(mail, "a")).kind == "dsn"
            assert reader.statistics().no_answers == {}

    run(main)


def test_where_nobody_can_be_asked_it_is_to_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        monkeypatch.setattr(child_module, "START_SECONDS_MAX", 0.0)
        async with open_mail_reader(dns(s1=record()), clock) as reader:
            with pytest.raises(NotReadNow):
                await reader.read(DSN, "a")
            monkeypatch.undo()
            assert (await reader.read(DSN, "a")).kind == "dsn"

    run(main)


def test_what_takes_too_long_is_of_no_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with opened("child", dns(s1=record())) as reader:
            monkeypatch.setattr("relay.processes.mail_reader.READ_SECONDS_MAX", 0.0)
            assert await reader.read(DSN, "a") == Reading()
            assert await reader.signed_by(sign(DSN), [ONE], "a") == ()
            assert reader.statistics().no_answers == {"late": 4}

    run(main)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_child_that_others_end_or_stop_is_not_the_mail_s_fault(number: signal.Signals) -> None:
    """A reply that nobody read would be refused for good, and a bounce lost."""

    async def main() -> None:
        async with open_child(PROGRAM) as child:
            reader = MailReader(child, dns(s1=record()), clock)
            signed = sign(DSN)
            asked: list[Callable[[], Any]] = [
                lambda: reader.read(signed, "a"),
                lambda: reader.signed_by(signed, [ONE], "a"),
            ]
            for ask in asked:
                expected = await ask()
                assert child.pid is not None
                os.kill(child.pid, signal.SIGSTOP)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(_kill_soon, child.pid, number)
                    assert await ask() == expected
            assert reader.statistics().no_answers == {"ended" if number == signal.SIGKILL else "late": 2}

    run(main)


async def _kill_soon(pid: int, number: signal.Signals) -> None:
    await wait_all_tasks_blocked()  # it is asked
    os.kill(pid, number)


def test_its_child_has_no_event_loop() -> None:
    """It is small, and quick to begin."""
    code = f"import {PROGRAM.module}, sys; print(sorted(m for m in sys.modules if m in ('trio', 'lmdb', 'hypercorn')))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"
