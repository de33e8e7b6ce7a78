"""What a killed relay leaves behind: files that say where it was served and how far its views are."""

from __future__ import annotations

from pathlib import Path

from relay.file_names import ADMIN_SOCKET, HTTP_ADDRESS_FILE
from tests.world.process import RelayProcess, make_process_directory
from tests.world.relay import DOMAIN


def test_an_address_that_a_killed_relay_left_behind_is_gone_before_anything_is_served(tmp_path: Path) -> None:
    relay = RelayProcess(make_process_directory(tmp_path / "data", route="127.0.0.1:9"))
    address = relay.directory / HTTP_ADDRESS_FILE
    with relay.running():
        relay.kill()
        assert address.read_text().strip() == relay.address
        assert (relay.directory / ADMIN_SOCKET).exists()
        # Commands are not misled by either: nobody has the log.
        assert "[]" in relay.command("member", "list", "--json")
        address.write_text("127.0.0.1:1\n")
        relay.start()
        assert address.read_text().strip() == relay.address != "127.0.0.1:1"
        assert relay.stop() == 0
    assert not address.exists()
    assert not (relay.directory / ADMIN_SOCKET).exists()


def test_a_pepper_that_is_gone_is_not_made_anew(tmp_path: Path) -> None:
    relay = RelayProcess(make_process_directory(tmp_path / "data", route="127.0.0.1:9"))
    (relay.directory / "pepper").unlink()
    relay.launch()
    assert relay.wait() == 1
    assert "pepper" in relay.output
    assert not (relay.directory / "pepper").exists()


def test_secrets_that_were_being_written_are_gone_after_the_next_start(tmp_path: Path) -> None:
    """But not while another relay runs, which may be writing them."""
    relay = RelayProcess(make_process_directory(tmp_path / "data", route="127.0.0.1:9"))
    relay.enrol()
    begun = [
        relay.directory / ".pepper.2.0123abcd.tmp",
        relay.directory / "keys" / DOMAIN / ".atmos20990101r.pem.0123abcd.tmp",
    ]
    another = relay.directory / ".mine.tmp"
    with relay.running():
        for path in (*begun, another):
            path.write_bytes(b"")
        assert relay.run_command("serve", str(relay.directory)).returncode == 1
        assert all(path.exists() for path in begun)
        relay.kill()
        relay.start()
        assert not any(path.exists() for path in begun)
        assert another.exists()
        assert relay.stop() == 0
