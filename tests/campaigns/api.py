"""A campaign over the HTTP API: a running relay, its own `/openapi.json`, schemathesis, with credentials and without.

    python -m tests.campaigns.api [--seed 1] [--examples 50]

schemathesis makes requests from the document, legal ones and others; `api_hooks` tells it
what the document cannot: who is enrolled, and what earlier answers said. No answer may be a 5xx, and each must be of a
status, a content type and a shape that the document names; so every error is the JSON of the document. Without
credentials, or with a wrong key, a member's operation never succeeds. The relay must live through it, and stop with
exit status 0.

At the end it says how often each operation answered with each status, and fails where fewer than ACCEPTED_SHARE_MIN of
the sends were accepted, for then it has looked at little but refusals.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from relay.message.keys import load_pepper
from relay.message.tokens import Unsubscribe, UnsubscribeTokens
from tests.world.process import RelayProcess, make_process_directory
from tests.world.relay import DID, DOMAIN

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
ACCEPTED_SHARE_MIN = 0.25
SEND = "POST /v1/send"
#: What needs no credentials.
OPEN = ("/u/", "/metrics", "/healthz", "/readyz", "/openapi.json")
Statuses = dict[str, dict[str, int]]


def campaign(directory: Path, *, seed: int, examples: int) -> bool:
    """Whether all was well; schemathesis says itself what it has found, and how to ask for it again."""
    relay = RelayProcess(make_process_directory(directory, route="127.0.0.1:9"))
    credentials = relay.enrol()
    with relay.running():
        headers = [word for name, value in credentials.items() for word in ("--header", f"{name}: {value}")]
        is_well, statuses = _run(relay, headers, domain=DOMAIN, seed=seed, examples=examples)
        others = {
            "without credentials": [],
            "with a wrong key": [
                "--header",
                f"X-Atmos-DID: {DID}",
                "--header",
                "Authorization: Bearer atmos_x",
            ],
        }
        refused = {}
        for title, wrong in others.items():
            is_well_without, refused[title] = _run(relay, wrong, domain="", seed=seed, examples=examples)
            is_well &= is_well_without
        if relay.stop() != 0:
            sys.exit(f"the relay does not end well: {relay.output}")
    _print("with credentials", statuses)
    sends = statuses[SEND]
    if sends.get("200", 0) < ACCEPTED_SHARE_MIN * sum(sends.values()):
        print(f"too few sends were accepted: {sends}")
        is_well = False
    for title, counts in refused.items():
        _print(title, counts)
        for label, of_operation in counts.items():
            succeeded = {status for status in of_operation if status.startswith(("1", "2"))}
            if succeeded and not label.split(" ")[1].startswith(OPEN):
                print(f"{title} {label} answered {succeeded}")
                is_well = False
    return is_well


def _run(
    relay: RelayProcess, headers: list[str], *, domain: str, seed: int, examples: int
) -> tuple[bool, Statuses]:
    address = f"http://{relay.address}"
    tokens = UnsubscribeTokens(load_pepper(relay.directory).unsubscribe_key)
    counted = relay.directory.with_name("statuses.json")
    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("schemathesis")), "run", f"{address}/openapi.json",
            "--url", address, *headers, "--checks", CHECKS, "--max-examples", str(examples), "--seed", str(seed),
            "--phases", "examples,coverage,fuzzing,stateful", "--continue-on-failure",
        ],
        cwd=relay.directory,
        env={
            **os.environ,
            "PYTHONPATH": str(Path(__file__).parent.parent.parent),
            "SCHEMATHESIS_HOOKS": "tests.campaigns.api_hooks",
            "API_CAMPAIGN_DOMAIN": domain,
            "API_CAMPAIGN_TOKEN": tokens.seal(Unsubscribe(DID, 1, "frida@friends.example")),
            "API_CAMPAIGN_STATUSES": str(counted),
        },
    )  # fmt: skip
    statuses: Statuses = json.loads(counted.read_text())
    return done.returncode == 0, statuses


def _print(title: str, statuses: Statuses) -> None:
    print(f"\n{title}:")
    for label, counts in sorted(statuses.items()):
        total = sum(counts.values())
        shares = "  ".join(f"{status} {count / total:4.0%}" for status, count in sorted(counts.items()))
        print(f"{total:7,}  {label:40}  {shares}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.campaigns.api", description=__doc__.split("\n")[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--examples", type=int, default=50)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="api-") as name:
        is_well = campaign(Path(name) / "data", seed=options.seed, examples=options.examples)
    sys.exit(not is_well)


if __name__ == "__main__":
    main()
