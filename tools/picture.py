"""`make picture`: what the README shows, drawn from what a relay really did and `atmos-relay log audit` really said.

The demo's relay sends the demo's mail to a receiver that puts it off once (greylisting, as many receivers do with
strangers) and takes it at the second attempt. Nothing that is drawn is made up: the lines are those that the command
printed, in their order; an entry that says little at a glance is left out whole, and so is a detail that `_LEFT_OUT`
names. Times, hashes and keys are of that run; all else is the same every time.
"""

from __future__ import annotations

import argparse
import logging
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from xml.sax.saxutils import escape

import trio

from relay.config import CONFIG_FILE
from relay.logs import configure_logging
from relay.service import open_relay
from tools.demo.directory import Ports, enrol, prepare
from tools.demo.receiver import Receiver, free_port
from tools.demo.tour import MAIL, call, until_final

PICTURES = Path("docs")
#: The first delay of `[retry]` where nothing else is configured.
RETRY_SECONDS = 60
#: For all of it but the delay.
SECONDS_MAX = 60

_PUT_OFF = "451 4.7.1 Greylisted, try again later"
#: What begins so is left out, each entry with its details.
_LEFT_OUT = (
    "Category",
    "Member ",
    "with no Idempotency-Key",
    "the limits are those",
    "no byte of",
    "took ",
    "given up at",
)
_ENTRIES_LEFT_OUT = ("Queued as recipient", "Attempt ")


class GreylistingReceiver(Receiver):
    """Puts off the first recipient it is offered, and takes all that come later."""

    _has_put_off = False

    async def handle_RCPT(
        self, server: Any, session: Any, envelope: Any, address: str, options: list[str]
    ) -> str:
        if not self._has_put_off:
            self._has_put_off = True
            return _PUT_OFF
        envelope.rcpt_tos.append(address)
        envelope.rcpt_options.extend(options)
        return "250 2.1.5 OK"


# ------------------------------------------------------------------------------------------------ what happened


async def live(directory: Path, *, retry_seconds: int) -> int:
    """Make a data directory in which a mail was put off and then sent; its message id."""
    receiver = GreylistingReceiver()
    prepare(directory, Ports(http=free_port(0), receiver=receiver.controller.port))
    config = directory / CONFIG_FILE
    config.write_text(
        config.read_text().replace("# delays_seconds = [60, ", f"delays_seconds = [{retry_seconds}, ")
    )
    receiver.controller.start()
    try:
        async with open_relay(directory) as relay:
            url = f"http://{relay.http_address}"
            with trio.fail_after(SECONDS_MAX + retry_seconds):
                key = await enrol(relay.core)
                answer = await trio.to_thread.run_sync(call, f"{url}/v1/send", key, MAIL)
                message_id = int(answer["accepted"][0]["messageId"])
                message = await until_final(f"{url}/v1/messages/{message_id}", key)
            if message["status"] != "sent":
                sys.exit(f"the mail was not sent: {message['lastReply']}")
            await relay.stop()
    finally:
        await trio.to_thread.run_sync(receiver.controller.stop)
    return message_id


def audit(directory: Path, message_id: int) -> str:
    """What the command prints."""
    command = [sys.executable, "-m", "relay", "log", "audit", str(directory), str(message_id)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def shown(printed: str) -> Iterator[str]:
    """The lines that are drawn; an empty one stands before each entry."""
    for entry in printed.strip().split("\n\n"):
        first, *details = entry.split("\n")
        if not re.sub(r"^\d{4}-\S+Z  ", "", first).startswith(_ENTRIES_LEFT_OUT):
            yield ""
            yield first
            yield from (line for line in details if not line.strip().startswith(_LEFT_OUT))


# ------------------------------------------------------------------------------------------------ the picture


class Palette(NamedTuple):
    ground: str
    border: str
    text: str
    faint: str
    good: str
    waiting: str


LIGHT = Palette("#ffffff", "#d0d7de", "#1f2328", "#656d76", "#116329", "#953800")
DARK = Palette("#0d1117", "#30363d", "#e6edf3", "#8d96a0", "#56d364", "#e3b341")

_FONT = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"
_FONT_SIZE = 13
_LINE_HEIGHT = 19
#: Of a letter, in the widest of these fonts.
_LETTER_WIDTH = 0.61 * _FONT_SIZE
_MARGIN = 20


def draw(command: str, lines: Sequence[str], palette: Palette) -> str:
    """An SVG of a terminal, a <text> for each line."""
    all_lines = [f"$ {command}", *lines]
    width = round(max(map(len, all_lines)) * _LETTER_WIDTH) + 2 * _MARGIN
    height = len(all_lines) * _LINE_HEIGHT + 2 * _MARGIN
    frame = f'width="{width - 1}" height="{height - 1}" fill="{palette.ground}" stroke="{palette.border}"'
    texts = "\n".join(_texts(all_lines, palette))
    return f"""\
<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="img">
<title>What {escape(command)} prints</title>
<rect x="0.5" y="0.5" rx="8" {frame}/>
<g font-family="{_FONT}" font-size="{_FONT_SIZE}" fill="{palette.text}" style="white-space: pre">
{texts}
</g>
</svg>
"""


def _texts(lines: Iterable[str], palette: Palette) -> Iterator[str]:
    for number, line in enumerate(lines, 1):
        if line:
            y = _MARGIN + number * _LINE_HEIGHT - 5
            spans = "".join(
                f'<tspan fill="{fill}"{bold}>{escape(text)}</tspan>' if fill else escape(text)
                for text, fill, bold in _spans(line, palette)
            )
            yield f'<text x="{_MARGIN}" y="{y}" xml:space="preserve">{spans}</text>'


def _spans(line: str, palette: Palette) -> Iterator[tuple[str, str, str]]:
    """Pieces of a line, each with its colour (none: that of all text) and whether it is bold."""
    bold = ' font-weight="bold"'
    if line.startswith("$ "):
        yield "$ ", palette.faint, ""
        yield line[2:], palette.text, bold
    elif entry := re.fullmatch(r"(\d{4}-\S+Z  )(.*?)( \[sequence \d+\])", line):
        time, what, sequence = entry.groups()
        yield time, palette.faint, ""
        yield what, _colour(what, palette), bold
        yield sequence, palette.faint, ""
    elif not line.startswith(" "):
        yield line, _colour(line, palette), bold
    elif proof := re.fullmatch(
        r"(.*)(valid|the bytes are those that were sent|nothing contradicts the log)(.*)", line
    ):
        yield proof[1], "", ""
        yield proof[2], palette.good, ""
        yield proof[3], palette.faint, ""
    else:
        yield line, "", ""


def _colour(what: str, palette: Palette) -> str:
    if what.startswith("Deferred"):
        return palette.waiting
    return palette.good if re.search(r"^Sent|: sent$", what) else palette.text


# ------------------------------------------------------------------------------------------------ the command


def make_pictures(pictures: Path, *, retry_seconds: int) -> list[Path]:
    """The files, written anew."""
    with tempfile.TemporaryDirectory(prefix="picture-") as name:
        directory = Path(name) / "data"
        message_id = trio.run(lambda: live(directory, retry_seconds=retry_seconds))
        lines = list(shown(audit(directory, message_id)))
    written = []
    for colours, palette in (("light", LIGHT), ("dark", DARK)):
        path = pictures / f"picture-{colours}.svg"
        path.write_text(draw(f"atmos-relay log audit DIR {message_id}", lines, palette))
        written.append(path)
    return written


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="make picture", description=__doc__)
    parser.add_argument("--directory", type=Path, default=PICTURES, help="default: %(default)s")
    parser.add_argument("--retry-seconds", type=int, default=RETRY_SECONDS, help="default: %(default)s")
    options = parser.parse_args()
    configure_logging(logging.WARNING)
    for path in make_pictures(options.directory, retry_seconds=options.retry_seconds):
        print(f"{path} is written")
