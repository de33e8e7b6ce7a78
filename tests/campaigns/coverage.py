"""The properties of `tests.campaigns.inputs`, with inputs that atheris (libFuzzer) breeds towards code not yet reached.

    python -m tests.campaigns.coverage --seconds 60 [--only dns_answers] [--keep DIRECTORY]

needs atheris (`make setup` installs it where it is to be had: Linux on x86-64, Python 3.11 to 3.13). The time is for
all properties together. Each runs in a process of its own, because libFuzzer ends the one it lives in. It begins with
`tests.campaigns.corpus`, and with what earlier campaigns have kept in DIRECTORY/corpus/PROPERTY (by default below
`fuzz`). Only the modules under test count branches (`INSTRUMENTED`): to instrument all that is imported takes minutes,
and leads the search into trio.

Of each property it says how many inputs were run, how many edges of the code they reached (and the seeds alone), how
many features (edges by how often, and comparisons), and how many inputs were kept. An input that breaks a property,
or takes longer than INPUT_SECONDS_MAX or more than MEMORY_MB_MAX, is left in DIRECTORY/findings, the command that
runs it again is printed, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

INPUT_SECONDS_MAX = 10
MEMORY_MB_MAX = 1024

#: What is under test, by property. Parents are included with all their modules.
INSTRUMENTED: dict[str, tuple[str, ...]] = {
    "records": ("spool.record", "spool.segment"),
    "segments": ("spool.record", "spool.segment"),
    "sealed_segments": ("spool.record", "spool.segment"),
    "events": ("relay.codec", "relay.events"),
    "tokens": ("relay.message.tokens",),
    "headers": ("relay.message.headers", "relay.addresses"),
    "reports": ("relay.reports",),
    "requests": ("relay.requests", "relay.addresses", "relay.message.headers"),
    "replies": ("relay.delivery.reply_reader", "relay.delivery.smtp"),
    "commands": ("relay.reception",),
    "dns_answers": (
        "relay.delivery.resolve",
        "relay.internet.bounded_answers",
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
        "relay.domains.diagnosis",
        "dns.message",
        "dns.name",
        "dns.rdtypes",
    ),
}
#: Longer inputs are not bred: everything there is to read fits, and small inputs are run more often.
BYTES_MAX: dict[str, int] = {
    "reports": 4096,
    "dns_answers": 8192,
    "txt_answers": 8192,
    "segments": 4096,
    "sealed_segments": 4096,
}


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


def campaign(name: str, directory: Path, *, seconds: float = 0, inputs: int = -1, seed: int = 0) -> Result:
    """Run one property in a process of its own: for so long (0: without end), or on so many inputs.

    `seed` 0: another one each time.
    """
    from tests.campaigns.corpus import seeds

    corpus, findings = directory / "corpus" / name, directory / "findings"
    corpus.mkdir(parents=True, exist_ok=True)
    findings.mkdir(exist_ok=True)
    for data in seeds(name):
        (corpus / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)
    before, known = set(findings.iterdir()), len(list(corpus.iterdir()))
    words = directory / "words.txt"
    words.write_text(_dictionary())
    done = subprocess.run(
        [
            sys.executable, "-m", "tests.campaigns.coverage", "--breed", name, str(corpus),
            f"-max_total_time={math.ceil(seconds)}", f"-runs={inputs}", f"-seed={seed}",
            f"-max_len={BYTES_MAX.get(name, 1024)}", f"-dict={words}",
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
        seeds=known,
        edges_of_seeds=int(inited[1]) if inited else 0,
        edges=edges,
        features=features,
        kept=len(list(corpus.iterdir())) - known,
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
        result = campaign(name, options.keep, seconds=options.seconds / len(names))
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
