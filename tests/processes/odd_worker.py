"""A worker's program that does what it is told, and what no worker should do."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import socket
import time
from pathlib import Path
from typing import Any

import msgspec
import trio

from relay.processes import channel as channel_module
from relay.processes.worker import Here


class GREETING(msgspec.Struct, frozen=True):
    text: str
    #: What it does in place of getting ready: "die", "wait", "raise", "nonsense".
    instead: str = ""


# What the core asks.


class Echo(msgspec.Struct, frozen=True, tag=True):
    text: str = ""


class Echoed(msgspec.Struct, frozen=True):
    name: str
    text: str
    pid: int


class AskBack(msgspec.Struct, frozen=True, tag=True):
    """The core, and answer what it answers."""

    text: str


class Work(msgspec.Struct, frozen=True, tag=True):
    """So long, without letting the loop run."""

    seconds: float


class Wait(msgspec.Struct, frozen=True, tag=True):
    """For ever; or, when it is to stop, until it has told the core so, and answer that many octets."""

    octets: int = 0


class Flood(msgspec.Struct, frozen=True, tag=True):
    """The core with what it is told, or asked, without an end."""

    with_calls: bool


class Write(msgspec.Struct, frozen=True, tag=True):
    """These octets to the core, raw."""

    octets: bytes


class CloseSocket(msgspec.Struct, frozen=True, tag=True):
    """And live on."""

    tell_first: int


class Begin(msgspec.Struct, frozen=True, tag=True):
    """A process that holds this one's socket, and die."""


class Log(msgspec.Struct, frozen=True, tag=True):
    pass


class Fail(msgspec.Struct, frozen=True, tag=True):
    """By a defect."""


class Touch(msgspec.Struct, frozen=True, tag=True):
    """Open these, to read and to write; the answer has the errors."""

    read: tuple[str, ...]
    write: tuple[str, ...]


class Reach(msgspec.Struct, frozen=True, tag=True):
    """Connect to this socket, and send a signal to this process; the answer has the errors."""

    path: str
    pid: int


class Touched(msgspec.Struct, frozen=True):
    read: tuple[str, ...]
    write: tuple[str, ...]


class Look(msgspec.Struct, frozen=True, tag=True):
    pass


class Looks(msgspec.Struct, frozen=True):
    descriptors: dict[str, str]
    environment: list[str]
    sockets: list[int]
    inheritable: list[int]
    dies_with_parent: int
    no_new_privs: bool


QUESTIONS = (
    Echo | AskBack | Work | Wait | Flood | Write | CloseSocket | Begin | Log | Fail | Touch | Reach | Look
)


# What it asks and tells the core.


class Question(msgspec.Struct, frozen=True, tag=True):
    text: str


class News(msgspec.Struct, frozen=True, tag=True):
    number: int


ASKED = Question | News


async def main(here: Here) -> None:
    match here.greeting.instead:
        case "die":
            os._exit(3)
        case "wait":
            await trio.sleep_forever()
        case "raise":
            raise ValueError("the text of an exception may quote a mail")
        case "nonsense":
            os.write(_descriptor(here), b"\xff" * 100)
            await trio.sleep_forever()

    async def answer(question: Any) -> Any:
        return await _answer(here, question)

    assert await here.channel.call(Question("before"), str) == "core: before"
    here.ready(answer, lambda news: None)
    await here.stopping.wait()


async def _answer(here: Here, question: Any) -> Any:
    match question:
        case Echo(text):
            return Echoed(here.name, here.greeting.text + text, os.getpid())
        case AskBack(text):
            return await here.channel.call(Question(text), str)
        case Work(seconds):
            here.channel.tell(News(0))
            await trio.lowlevel.checkpoint()
            time.sleep(seconds)
        case Wait(octets):
            here.channel.tell(News(0))
            await here.stopping.wait()
            here.channel.tell(News(1))
            return b"x" * octets
        case Flood(with_calls):
            async with trio.open_nursery() as nursery:
                while True:
                    for _ in range(1000):
                        if with_calls:
                            nursery.start_soon(here.channel.call, Question("wait"), str)
                        else:
                            here.channel.tell(News(-1))
                    await trio.lowlevel.checkpoint()
        case Write(octets):
            os.write(_descriptor(here), octets)
            await trio.sleep_forever()
        case CloseSocket(tell_first):
            os.write(_descriptor(here), b"".join(map(_told, range(tell_first))))
            os.close(_descriptor(here))
            signal.pause()
        case Begin():
            if os.fork() == 0:
                signal.pause()
            os.write(_descriptor(here), _told(7))
            os.kill(os.getpid(), signal.SIGKILL)
        case Log():
            logging.getLogger("odd").info("odd.said", extra={"number": 5})
        case Fail():
            raise ValueError("the text of an exception may quote a mail")
        case Touch(read, write):
            return Touched(
                tuple(_opened(path, os.O_RDONLY) for path in read),
                tuple(_opened(path, os.O_RDWR | os.O_CREAT) for path in write),
            )
        case Reach(path, pid):
            return Touched((_connected(path),), (_signalled(pid),))
        case Look():
            return _looks(here)
    return None


def _opened(path: str, flags: int) -> str:
    try:
        os.close(os.open(path, flags))
    except OSError as error:
        return type(error).__name__
    return ""


def _connected(path: str) -> str:
    try:
        with socket.socket(socket.AF_UNIX) as one:
            one.connect(path)
    except OSError as error:
        return type(error).__name__
    return ""


def _signalled(pid: int) -> str:
    try:
        os.kill(pid, 0)
    except OSError as error:
        return type(error).__name__
    return ""


def _told(number: int) -> bytes:
    body = msgspec.msgpack.encode(News(number))
    return channel_module._HEAD.pack(len(body), channel_module._TELL, 0) + body


def _descriptor(here: Here) -> int:
    return here.channel._fd


def _looks(here: Here) -> Looks:
    descriptors = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            descriptors[name] = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            continue  # the one that listed them
    pdeathsig = ctypes.c_int(0)
    ctypes.CDLL(None).prctl(2, ctypes.byref(pdeathsig), 0, 0, 0)
    return Looks(
        descriptors=descriptors,
        environment=sorted(os.environ),
        sockets=[one.getsockname()[1] for one in here.sockets],
        inheritable=[int(name) for name in descriptors if int(name) > 2 and os.get_inheritable(int(name))],
        dies_with_parent=pdeathsig.value,
        no_new_privs="NoNewPrivs:\t1" in Path("/proc/self/status").read_text(),
    )
