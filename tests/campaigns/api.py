"""A campaign over the HTTP API: a running relay, its own `/openapi.json`, credentials, and schemathesis.

    python -m tests.campaigns.api [--seed 1] [--examples 50]

schemathesis (`pip install 'schemathesis>=4.10'`; `make fuzz` does it) makes requests from the document, legal ones and
others. No answer may be a 5xx, and each must be of a status, a content type and a shape that the document names; so
every error is the JSON of the document. The relay must live through it, and stop with exit status 0.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.world.process import RelayProcess, make_process_directory

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"


def campaign(directory: Path, *, seed: int, examples: int) -> int:
    """The exit status of schemathesis, which says itself what it has found and how to ask for it again."""
    relay = RelayProcess(make_process_directory(directory, route="127.0.0.1:9"))
    credentials = relay.enrol()
    with relay.running():
        address = f"http://{relay.address}"
        headers = [word for name, value in credentials.items() for word in ("--header", f"{name}: {value}")]
        done = subprocess.run(
            [
                str(Path(sys.executable).with_name("schemathesis")), "run", f"{address}/openapi.json",
                "--url", address, *headers, "--checks", CHECKS, "--max-examples", str(examples), "--seed", str(seed),
                "--phases", "examples,coverage,fuzzing", "--continue-on-failure",
            ],
            cwd=directory,
        )  # fmt: skip
        if relay.stop() != 0:
            sys.exit(f"the relay does not end well: {relay.output}")
        return done.returncode


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.campaigns.api", description=__doc__.split("\n")[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--examples", type=int, default=50)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="api-") as name:
        sys.exit(campaign(Path(name) / "data", seed=options.seed, examples=options.examples))


if __name__ == "__main__":
    main()
