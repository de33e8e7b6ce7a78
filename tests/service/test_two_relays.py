"""One directory has one relay: a second one says so and goes, and the operator's commands reach the one that runs."""

import json
import stat
from pathlib import Path

import requests

from relay.file_names import ADMIN_SOCKET
from tests.world.process import PATIENCE_SECONDS, RelayProcess, make_process_directory
from tests.world.relay import OTHER_DID

OTHER_DOMAIN = "other.example"


def test_the_second_relay_ends_and_the_first_goes_on(tmp_path: Path) -> None:
    first = RelayProcess(make_process_directory(tmp_path / "data", route="127.0.0.1:9"))
    with first.running():
        second = first.run_command("serve", str(first.directory))
        assert second.returncode == 1
        assert second.stdout == ""
        assert second.stderr == (
            "atmos-relay: another process (a relay, or a command such as log erase) "
            f"holds {first.directory / 'log'} (pid {first.pid})\n"
        )
        assert (first.directory / "http.address").read_text() == f"{first.address}\n"
        ready = requests.get(f"http://{first.address}/readyz", timeout=PATIENCE_SECONDS)
        assert ready.status_code == 200
        assert json.loads(first.command("member", "list", "--json")) == []
        assert first.stop() == 0


def test_a_member_enrolled_while_the_relay_runs_sends_at_once(tmp_path: Path) -> None:
    relay = RelayProcess(make_process_directory(tmp_path / "data", route="127.0.0.1:9"))
    before = relay.enrol()  # no relay runs: the command opens the directory itself
    with relay.running():
        while_running = relay.enrol(OTHER_DID, OTHER_DOMAIN)
        for credentials, sender in ((before, "you@yourdomain.com"), (while_running, f"you@{OTHER_DOMAIN}")):
            mail = {"from": sender, "to": "friend@example.com", "subject": "Hello", "text": "Hi"}
            answer = requests.post(
                f"http://{relay.address}/v1/send", json=mail, headers=credentials, timeout=PATIENCE_SECONDS
            )
            assert answer.status_code == 200, answer.text
        (command,) = relay.log_lines("admin.command")
        assert command["command"] == "member_add"
        assert relay.stop() == 0


def test_the_admin_socket_is_the_owners_only_and_goes_with_the_relay(tmp_path: Path) -> None:
    relay = RelayProcess(make_process_directory(tmp_path / "data", route="127.0.0.1:9"))
    path = relay.directory / ADMIN_SOCKET
    with relay.running():
        mode = path.stat().st_mode
        assert stat.S_ISSOCK(mode)
        assert stat.S_IMODE(mode) == 0o600
        assert relay.stop() == 0
    assert not path.exists()


def test_a_socket_left_behind_by_a_killed_relay_is_in_nobodys_way(tmp_path: Path) -> None:
    relay = RelayProcess(make_process_directory(tmp_path / "data", route="127.0.0.1:9"))
    with relay.running():
        relay.kill()
        assert (relay.directory / ADMIN_SOCKET).exists()
        credentials = relay.enrol()  # by the command itself
        relay.start()
        (member,) = json.loads(relay.command("member", "list", "--json"))  # by the relay
        assert member["did"] == credentials["X-Atmos-DID"]
        assert len(relay.log_lines("admin.command")) == 1
        assert relay.stop() == 0
