"""The properties of `tests.campaigns.inputs`, with inputs that atheris (libFuzzer) breeds towards code not yet reached.

    python -m tests.campaigns.coverage --seconds 60 [--only dns_answers] [--keep DIRECTORY]

needs atheris (`make fuzz` installs it; Linux, Python 3.11 to 3.13). The time is for all properties together. Each runs
in a process of its own, because libFuzzer ends the one it lives in. It begins with what `seeds` makes of the golden
files, the dialogues and the hostile texts, and with what earlier campaigns have kept in DIRECTORY/corpus/PROPERTY (by
default below `fuzz`). Only the modules under test count branches (`INSTRUMENTED`): to instrument all that is imported
takes minutes, and leads the search into trio.

Of each property it says how many inputs were run, how many edges of the code they reached (and the seeds alone), how
many features (edges by how often, and comparisons), and how many inputs were kept. An input that breaks a property,
or takes longer than INPUT_SECONDS_MAX or more than MEMORY_MB_MAX, is left in DIRECTORY/findings, the command that
runs it again is printed, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from spool.record import Entry

TESTS = Path(__file__).parent.parent
INPUT_SECONDS_MAX = 10
MEMORY_MB_MAX = 1024

#: What is under test, by property. Parents are included with all their modules.
INSTRUMENTED: dict[str, tuple[str, ...]] = {
    "records": ("spool.record", "spool.segment"),
    "segments": ("spool.record", "spool.segment"),
    "sealed_segments": ("spool.record", "spool.segment"),
    "events": ("relay.codec", "relay.events"),
    "tokens": ("relay.tokens",),
    "headers": ("relay.headers", "relay.addresses"),
    "requests": ("relay.requests", "relay.addresses", "relay.headers"),
    "replies": ("relay.delivery.smtp",),
    "dns_answers": (
        "relay.delivery.resolve",
        "relay.delivery.bounded_answers",
        "dns.message",
        "dns.name",
        "dns.rdata",
        "dns.rdataset",
        "dns.rdtypes",
        "dns.wirebase",
        "dns.resolver",
    ),
    "txt_answers": (
        "relay.delivery.resolve",
        "relay.dns_diagnosis",
        "dns.message",
        "dns.name",
        "dns.rdtypes",
    ),
}
#: Longer inputs are not bred: everything there is to read fits, and small inputs are run more often.
BYTES_MAX: dict[str, int] = {
    "dns_answers": 8192,
    "txt_answers": 8192,
    "segments": 4096,
    "sealed_segments": 4096,
}


def seeds(name: str) -> Iterator[bytes]:
    """What each property begins with: inputs of the kind that the reader is made for."""
    from tests.campaigns import inputs

    match name:
        case "records" | "segments" | "sealed_segments":
            yield from _segments(whole=name == "segments", alone=name == "records")
        case "events":
            for skeleton, payload in _golden_entries():
                yield skeleton + (payload or b"")
                if payload:
                    yield payload
                    yield skeleton[: len(payload)].ljust(len(payload), b"\0") + payload
        case "tokens":
            yield inputs.BOUNCES.make(7).encode()
            yield inputs.TOKENS.seal(inputs.UNSUBSCRIBE).encode()
        case "headers":
            yield from _hostile_texts()
            for path in sorted((TESTS / "golden_messages").glob("*.eml")):
                yield from path.read_bytes().partition(b"\r\n\r\n")[0].split(b"\r\n")
        case "requests":
            yield _send()
            for text in _hostile_texts():
                for field in ("from", "subject", "text", "html", "replyTo"):
                    yield _send(**{field: f"{text.decode()} <you@yourdomain.com>"})
                yield _send(to=["friend@example.com", f"a{text.decode()}@b.example"])
                yield _send(
                    headers={"X-Mine": text.decode(), "List-Unsubscribe": f"<https://{text.decode()}>"}
                )
        case "replies":
            for path in sorted((TESTS / "dialogues").glob("*.txt")):
                said = [line[3:] for line in path.read_text().splitlines() if line.startswith("S: ")]
                yield b"\x3f" + "".join(f"{line}\r\n" for line in said).encode()
        case "dns_answers" | "txt_answers":
            yield from inputs.dns_seeds()


def _segments(*, whole: bool, alone: bool) -> Iterator[bytes]:
    """Sealed segments of a few golden events, whole or without the header; or one record."""
    from spool.record import CHAIN_START, crc32c, encode_record, make_record
    from spool.segment import Position, encode_footer, encode_segment_header, seal
    from tests.campaigns.inputs import SEGMENT, SEGMENT_SEED

    entries = _golden_entries()
    header = encode_segment_header(SEGMENT)
    for count in (1, 2, 5):
        data, chain = header, CHAIN_START
        for seq, entry in enumerate(entries[:count], start=1):
            record = make_record(
                entry, seq=seq, time_us=seq, batch_seq=1, batch_end=seq == count, previous_chain=chain, segment=1,
                offset=len(data),
            )  # fmt: skip
            chain = record.chain
            octets = b"".join(encode_record(record, SEGMENT_SEED))
            if alone:
                yield octets
            data += octets
        end = Position(1, len(data), count + 1, chain, count)
        sealed = data + encode_footer(seal(end, crc32c(0, data)), SEGMENT_SEED)
        for octets in (data, sealed):
            if not alone:
                yield octets if whole else octets[len(header) :]


def _golden_entries() -> list[Entry]:
    from tests.golden_events import literals as golden

    return [golden.read(name, version).entry for name, version in golden.EVENTS]


def _hostile_texts() -> list[bytes]:
    lines = (TESTS / "hostile_texts.txt").read_text().splitlines()
    return [
        line.encode().decode("unicode_escape").encode("latin-1")
        for line in lines
        if line and not line.startswith("#")
    ]


def _send(**fields: object) -> bytes:
    body = {
        "from": "you@yourdomain.com",
        "to": "friend@example.com",
        "subject": "Hello",
        "text": "Hello",
        **fields,
    }
    return json.dumps(body, ensure_ascii=False).encode()


class Result(NamedTuple):
    """What libFuzzer said at the end of one property."""

    name: str
    executions: int
    seconds: int
    seeds: int
    edges_of_seeds: int
    edges: int
    features: int
    kept: int
    findings: list[Path]


def campaign(name: str, seconds: float, directory: Path) -> Result:
    """Run one property in a process of its own."""
    corpus, findings = directory / "corpus" / name, directory / "findings"
    corpus.mkdir(parents=True, exist_ok=True)
    findings.mkdir(exist_ok=True)
    for seed in seeds(name):
        (corpus / hashlib.sha256(seed).hexdigest()[:16]).write_bytes(seed)
    before, inputs = set(findings.iterdir()), len(list(corpus.iterdir()))
    words = directory / "words.txt"
    words.write_text(_dictionary())
    done = subprocess.run(
        [
            sys.executable, "-m", "tests.campaigns.coverage", "--breed", name, str(corpus),
            f"-max_total_time={max(1, round(seconds))}", f"-max_len={BYTES_MAX.get(name, 1024)}", f"-dict={words}",
            f"-timeout={INPUT_SECONDS_MAX}", f"-rss_limit_mb={MEMORY_MB_MAX}", f"-artifact_prefix={findings}/{name}-",
            "-print_final_stats=1", "-use_value_profile=1",
        ],
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )  # fmt: skip
    said = done.stderr
    new = sorted(set(findings.iterdir()) - before)
    reached = [(int(edges), int(features)) for edges, features in re.findall(r"cov: (\d+) ft: (\d+)", said)]
    if not reached or (done.returncode != 0) != bool(new):
        sys.exit(f"{name}: libFuzzer ended with {done.returncode}, and not as it should:\n{said[-4000:]}")
    if new:
        print(said[-4000:], file=sys.stderr)
    inited = re.search(r"INITED\s+cov: (\d+)", said)
    edges, features = reached[-1]
    return Result(
        name=name,
        executions=_number(r"number_of_executed_units: (\d+)", said) or _number(r"#(\d+)\D*$", said),
        seconds=round(seconds),
        seeds=inputs,
        edges_of_seeds=int(inited[1]) if inited else 0,
        edges=edges,
        features=features,
        kept=len(list(corpus.iterdir())) - inputs,
        findings=new,
    )


def _number(pattern: str, text: str) -> int:
    found = re.findall(pattern, text, re.MULTILINE)
    return int(found[-1]) if found else 0


def _dictionary() -> str:
    from tests.campaigns.inputs import WORDS

    words = ("".join(f"\\x{octet:02x}" for octet in word) for word in WORDS)
    return "".join(f'"{word}"\n' for word in words)


def breed(name: str, arguments: list[str]) -> None:
    """Does not return: libFuzzer ends the process."""
    import atheris

    with atheris.instrument_imports(include=list(INSTRUMENTED[name])):
        for module in INSTRUMENTED[name]:
            importlib.import_module(module)
        from tests.campaigns import inputs
    atheris.Setup([sys.argv[0], *arguments], inputs.PROPERTIES[name])
    atheris.Fuzz()


def main() -> None:
    if sys.argv[1:2] == ["--breed"]:
        breed(sys.argv[2], sys.argv[3:])
        return
    parser = argparse.ArgumentParser(
        prog="python -m tests.campaigns.coverage", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--only", choices=list(INSTRUMENTED))
    parser.add_argument("--keep", type=Path, default=Path("fuzz"), metavar="DIRECTORY")
    options = parser.parse_args()
    names = [options.only] if options.only else list(INSTRUMENTED)
    print("    inputs      s  edges (of the seeds)  features  kept  property", flush=True)
    failed = False
    for name in names:
        result = campaign(name, options.seconds / len(names), options.keep)
        print(
            f"{result.executions:10,}  {result.seconds:5}  {result.edges:5} ({result.edges_of_seeds:5})"
            f"        {result.features:8}  {result.kept:4}  {name}",
            flush=True,
        )
        for path in result.findings:
            failed = True
            print(f"FOUND. Again: python -m tests.campaigns.inputs --only {name} --again {path}", flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
