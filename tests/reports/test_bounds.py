"""Mails of 11 MB that are made to be slow and large are read within two seconds and 64 MB, the mail itself included.

Each is read in a process of its own, which may have 64 MB of data (RLIMIT_DATA) more than the imports took.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.reports.huge_mails import HUGE

SECONDS_MAX = 2.0
DATA_BYTES_MAX = 64 << 20

_READ = f"""
import resource, sys, time
from relay.reports.read import read_mail
from tests.reports.huge_mails import HUGE
taken = int(next(line for line in open("/proc/self/status") if line.startswith("VmData")).split()[1]) << 10
resource.setrlimit(resource.RLIMIT_DATA, (taken + {DATA_BYTES_MAX},) * 2)
octets = HUGE[sys.argv[1]]()
assert len(octets) > 11_000_000
started = time.process_time()
reading = read_mail(octets)
print(time.process_time() - started, reading.kind)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA counts what it says on Linux")
@pytest.mark.parametrize("name", HUGE)
def test_a_huge_mail_costs_little(name: str) -> None:
    done = subprocess.run([sys.executable, "-c", _READ, name], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    seconds, kind = done.stdout.split()
    assert float(seconds) < SECONDS_MAX
    assert kind == (
        "dsn" if name.startswith("report") else "heuristic" if name.startswith("bounce") else kind
    )
