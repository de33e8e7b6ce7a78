"""`make demo ONCE=1`, the first thing that a newcomer runs. A second run goes on with the data of the first."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from click.testing import CliRunner

from tests.world.process import PATIENCE_SECONDS
from tools.cli import cli
from tools.demo.directory import DID


def test_the_demo_shows_what_the_readme_says_twice(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tools.demo", "--once", "--directory", tmp_path / "data"]
    for run in range(2):
        if run:
            # As the mails to bounce@ and later@ do, which are sent when the demo goes on to serve.
            returned = ("--did", DID, "--recipient", "later@example.com")
            added = CliRunner().invoke(cli, ["suppression", "add", str(tmp_path / "data"), *returned])
            assert added.exit_code == 0, added.output
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("  valid    d=") == 8
        assert "  250 2.0.0 accepted as " in done.stdout
        assert done.stdout.count("X-Atmos-Category") == 1  # in what is handed in, not in what arrives
        assert "message.queued" in done.stdout
        assert "message.sent" in done.stdout
        assert '"code": "RECIPIENT_SUPPRESSED"' in done.stdout
        assert "  message.bounce_reported" in done.stdout
        assert "\n        Nobody has this address: take it off the list.\n" in done.stdout
        assert "\ncurl -X POST http://127.0.0.1:" in done.stdout
