"""What commands do with a terminal of another encoding, with nobody who reads, and with files of others: each in a
process of its own, as a shell starts it."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.world.process import PATIENCE_SECONDS, RelayProcess, make_process_directory, wait_until
from tests.world.relay import DID, DOMAIN

MAILBOX = "naïve日本😀@example.com"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = make_process_directory(tmp_path_factory.mktemp("streams") / "data", route="127.0.0.1:9")
    relay = RelayProcess(directory)
    relay.enrol()
    relay.command("domain", "set-forward", "--domain", DOMAIN, "--to", MAILBOX)
    return directory


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "relay", *arguments]


def in_shell(line: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`$R` is the command; the status is that of the first in a pipe."""
    return subprocess.run(
        ["bash", "-c", f"{line}; exit ${{PIPESTATUS[0]}}"],
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        env={**os.environ, "R": f"{sys.executable} -m relay", **environment},
    )


@pytest.mark.parametrize("encoding", ["iso-8859-1", "utf-8"])
def test_a_terminal_that_cannot_show_it_gets_an_escape(data: Path, encoding: str) -> None:
    done = subprocess.run(
        command("log", "cat", str(data)),
        capture_output=True,
        timeout=PATIENCE_SECONDS,
        env={**os.environ, "PYTHONIOENCODING": encoding},
    )
    assert (done.returncode, done.stderr) == (0, b"")
    text = done.stdout.decode(encoding)
    assert (MAILBOX in text) == (encoding == "utf-8")
    assert text.count("\n") == 4


@pytest.mark.parametrize("encoding", ["iso-8859-1", "ascii", "utf-8"])
def test_json_stays_json(data: Path, encoding: str) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    done = subprocess.run(
        command("log", "audit", str(data), "--json", "4"),
        capture_output=True,
        env=environment,
        timeout=PATIENCE_SECONDS,
    )
    json.loads(done.stdout.decode(encoding) or "{}")
    done = subprocess.run(
        command("member", "list", str(data), "--json"),
        capture_output=True,
        env=environment,
        timeout=PATIENCE_SECONDS,
    )
    assert json.loads(done.stdout.decode(encoding))[0]["did"] == DID


@pytest.mark.parametrize(
    "line",
    [
        "$R member list {} | true",
        "$R member list {} --json | true",
        "$R domain list {} | head -c 1 >/dev/null",
        "$R key list {} | true",
        "$R dns {} | head -1 >/dev/null",
        "$R log cat {} | head -1 >/dev/null",
        "$R log inspect {} | true",
        "$R log verify {} | true",
        "$R queue list {} | true",
        "$R doctor {} | true",
        "$R --help | true",
        "$R version | true",
        "$R member list {} >&-",
        "$R log cat {} >&-",
        "$R log verify {} >&- 2>&- <&-",
        "$R --help >&-",
    ],
)
def test_whoever_stops_reading_has_seen_what_he_wanted(data: Path, line: str) -> None:
    done = in_shell(line.format(data))
    assert done.stderr == ""
    if "doctor" not in line:  # whose status says what it found
        assert done.returncode == 0


def test_a_closed_standard_error_does_not_become_the_log_file(data: Path, tmp_path: Path) -> None:
    line = f"$R log export {data} --output {tmp_path / 'events'} >&- 2>&-"
    assert in_shell(line).returncode == 0
    for event in (tmp_path / "events").read_text().splitlines():
        json.loads(event)


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        directory = make_process_directory(tmp_path / "data", route="127.0.0.1:9", http=f'bind = "{address}"')
        done = subprocess.run(
            command("serve", str(directory)), capture_output=True, text=True, timeout=PATIENCE_SECONDS
        )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith(
        f"cannot listen on {address} ([http] bind): Address already in use"
    )
    assert "Traceback" not in done.stderr


def test_watch_says_in_one_sentence_that_nothing_listens(tmp_path: Path) -> None:
    silent = socket.socket()
    silent.bind(("127.0.0.1", 0))  # its number is nobody else's, and nobody listens there
    address = f"127.0.0.1:{silent.getsockname()[1]}"
    said = tmp_path / "stderr"
    with said.open("w") as stderr:
        process = subprocess.Popen(
            command("watch", f"http://{address}", "--did", DID, "--key", "atmos_x"),
            stderr=stderr,
            stdout=subprocess.DEVNULL,
        )
    try:
        wait_until(lambda: "again in" in said.read_text(), said.read_text)
    finally:
        process.kill()
        process.wait()
        silent.close()
    assert said.read_text().splitlines()[0].startswith(f"ws://{address}/v1/stream: connection refused; again")


# ------------------------------------------------------------------------------------------------ files of others


def test_an_export_is_for_its_owner_only_also_where_it_goes_on(data: Path, tmp_path: Path) -> None:
    output = tmp_path / "events"
    output.touch(0o644)
    output.chmod(0o644)
    assert in_shell(f"$R log export {data} --output {output}").returncode == 0
    assert stat.S_IMODE(output.stat().st_mode) == 0o600


def test_an_export_writes_to_nothing_that_somebody_else_has_laid_there(data: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("")
    output = tmp_path / "events"
    for lay in (
        lambda: output.symlink_to(target),
        lambda: output.hardlink_to(target),
        lambda: os.mkfifo(output),
    ):
        output.unlink(missing_ok=True)
        lay()
        done = in_shell(f"$R log export {data} --output {output}")
        assert done.returncode == 1
        assert "is a symbolic link" in done.stderr or "is no file of our own" in done.stderr
        assert target.read_text() == ""
    output.unlink()
    output.symlink_to(tmp_path / "not there")
    assert in_shell(f"$R log export {data} --output {output}").returncode == 1
    assert not (tmp_path / "not there").exists()


# ------------------------------------------------------------------------------------------------ what is meant


@pytest.mark.parametrize(
    "line",
    [
        "$R domain pause {0} --domain {1}",
        "$R domain resume {0} --domain {1}",
        "$R domain pause {0} --domain {1} --did {2}",
        "$R domain resume {0} --domain {1} --did {2}",
    ],
)
def test_a_domain_that_is_unique_needs_no_did(data: Path, line: str) -> None:
    done = in_shell(line.format(data, DOMAIN.upper() if "--did" not in line else DOMAIN, DID))
    assert (done.returncode, done.stderr) == (0, "")


def test_a_domain_or_key_of_nobody_is_said_to_be_so(data: Path) -> None:
    assert (
        "nobody.example is not enrolled"
        in in_shell(f"$R domain verify {data} --domain nobody.example").stderr
    )
    assert "there is no key 123" in in_shell(f"$R key revoke {data} --key-id 123").stderr


def test_a_key_that_is_unique_needs_no_did(data: Path) -> None:
    key = json.loads(in_shell(f"$R key issue {data} --did {DID} --json").stdout)
    assert in_shell(f"$R key revoke {data} --key-id {key['keyId']}").returncode == 0
