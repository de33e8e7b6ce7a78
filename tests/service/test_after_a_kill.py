"""What a killed relay leaves behind: files that say where it was served and how far its views are."""

from __future__ import annotations

from pathlib import Path

from relay.file_names import ADMIN_SOCKET, HTTP_ADDRESS_FILE
from tests.world.process import RelayProcess, make_process_directory


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
