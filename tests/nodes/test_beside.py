"""Keys go beside the batch whose event speaks of them, and are on every node before it is applied."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from relay.codec import encode
from relay.events import (
    DomainAdded,
    DomainKeyCreated,
    Event,
    MemberAdded,
    MemberSuspended,
    OperatorKeyCreated,
    PepperRotated,
    SigningKeyDeleted,
)
from relay.message.key_files import KeyFileError
from relay.message.keys import KeyRing, Pepper, create_pepper, load_peppers, make_pepper
from relay.nodes.beside import BesideError, KeyMaterial
from relay.nodes.seal import BESIDE, Seal, SealError
from spool.record import Record, make_record
from spool.replicated.table import Row
from tests.world.directories import contents

DID = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"
DOMAIN = "a.example"


class Node(NamedTuple):
    directory: Path
    material: KeyMaterial
    peppers: dict[int, Pepper]

    def file(self, selector: str, domain: str = DOMAIN) -> Path:
        return self.directory / "keys" / domain / f"{selector}.pem"


def node(directory: Path, pepper: bytes | None = None) -> Node:
    directory.mkdir()
    if pepper is None:
        create_pepper(directory)
    else:
        (directory / "pepper").write_bytes(pepper)
        (directory / "pepper").chmod(0o600)
    came: dict[int, Pepper] = {}
    seal = Seal(load_peppers(directory), BESIDE, secrets.token_bytes)
    return Node(directory, KeyMaterial(directory, seal, came.__setitem__), came)


@pytest.fixture
def leader(tmp_path: Path) -> Node:
    return node(tmp_path / "leader")


@pytest.fixture
def follower(tmp_path: Path, leader: Node) -> Node:
    return node(tmp_path / "follower", (leader.directory / "pepper").read_bytes())


def enrolled(leader: Node, stem: str = "atmos20260101", domain: str = DOMAIN) -> DomainAdded:
    """Its keys are made, as they are before the event."""
    rsa, ed25519 = KeyRing(leader.directory).create(domain, stem)
    return DomainAdded(
        did=DID,
        domain=domain,
        selector_stem=stem,
        rsa_public=rsa.public_key,
        ed25519_public=ed25519.public_key,
    )


def records(*events: Event) -> Sequence[Record]:
    """A batch."""
    made: list[Record] = []
    for seq, event in enumerate(events, 7):
        made.append(
            make_record(
                encode(event),
                seq=seq,
                time_us=1,
                batch_seq=7,
                batch_end=seq == 6 + len(events),
                previous_chain=made[-1].chain if made else bytes(32),
                segment=0,
                offset=0,
            )
        )
    return made


def apply(follower: Node, batch: Sequence[Record], beside: bytes) -> None:
    row = Row(batch[0].seq, batch[-1].seq, 1, bytes(32), batch[-1].chain, b"", beside)
    follower.material.write_before_applied(row, batch)


def test_a_batch_without_keys_has_nothing_beside_it(leader: Node, follower: Node) -> None:
    batch = records(MemberAdded(did=DID), MemberSuspended(did=DID, reason="dtypeldomain.added"))
    assert leader.material.beside_of(batch) == b""
    before = contents(follower.directory)
    apply(follower, batch, b"")
    assert contents(follower.directory) == before


def test_a_domain_s_keys_are_there_before_it_is(leader: Node, follower: Node) -> None:
    event = enrolled(leader)
    batch = records(MemberAdded(did=DID), event)
    beside = leader.material.beside_of(batch)
    private = leader.file("atmos20260101e").read_bytes()
    assert private.splitlines()[1] not in beside
    apply(follower, batch, beside)
    for selector in ("atmos20260101r", "atmos20260101e"):
        there = follower.file(selector)
        assert there.read_bytes() == leader.file(selector).read_bytes()
        assert stat.S_IMODE(there.stat().st_mode) == 0o600
        assert stat.S_IMODE(there.parent.stat().st_mode) == 0o700
    signers = KeyRing(follower.directory).signers(DOMAIN, "atmos20260101")
    assert [signer.public_key for signer in signers] == [event.rsa_public, event.ed25519_public]


def test_several_events_of_all_kinds(leader: Node, follower: Node) -> None:
    added, own = enrolled(leader), enrolled(leader, "atmos20260203-2", "relay.example")
    make_pepper(leader.directory, 2)
    batch = records(
        added,
        PepperRotated(number=2),
        OperatorKeyCreated(
            domain="relay.example",
            selector_stem="atmos20260203-2",
            rsa_public=own.rsa_public,
            ed25519_public=own.ed25519_public,
        ),
    )
    apply(follower, batch, leader.material.beside_of(batch))
    assert (follower.directory / "pepper.2").read_bytes() == (leader.directory / "pepper.2").read_bytes()
    assert follower.peppers.keys() == {2}
    assert follower.peppers[2].root == (leader.directory / "pepper.2").read_bytes()
    assert follower.file("atmos20260203-2r", "relay.example").exists()
    assert follower.file("atmos20260101r").exists()


def test_a_rotated_key(leader: Node, follower: Node) -> None:
    made = enrolled(leader, "atmos20260102")
    fields = msgspec.structs.asdict(made)
    event = DomainKeyCreated(
        **{name: fields[name] for name in ("did", "domain", "selector_stem", "rsa_public", "ed25519_public")}
    )
    batch = records(event)
    apply(follower, batch, leader.material.beside_of(batch))
    assert follower.file("atmos20260102e").exists()


def test_done_again_it_changes_nothing(leader: Node, follower: Node) -> None:
    batch = records(enrolled(leader))
    beside = leader.material.beside_of(batch)
    apply(follower, batch, beside)
    before = contents(follower.directory)
    apply(follower, batch, beside)
    assert contents(follower.directory) == before


def test_killed_between_two_files_it_is_done_again(leader: Node, follower: Node) -> None:
    batch = records(enrolled(leader))
    beside = leader.material.beside_of(batch)
    apply(follower, batch, beside)
    follower.file("atmos20260101e").unlink()
    apply(follower, batch, beside)
    assert follower.file("atmos20260101e").read_bytes() == leader.file("atmos20260101e").read_bytes()


def test_keys_that_a_deposed_leader_made_for_nothing_are_set_aside(
    leader: Node, follower: Node, caplog: pytest.LogCaptureFixture
) -> None:
    """Its event was refused, and another node enrolled the domain on the same day."""
    enrolled(follower)
    unused = follower.file("atmos20260101r").read_bytes()
    event = enrolled(leader)
    batch = records(event)
    apply(follower, batch, leader.material.beside_of(batch))
    assert follower.file("atmos20260101r").read_bytes() == leader.file("atmos20260101r").read_bytes()
    (aside,) = follower.file("atmos20260101r").parent.glob("atmos20260101r.pem.unused-*")
    assert aside.read_bytes() == unused
    assert KeyRing(follower.directory).stems(DOMAIN) == ["atmos20260101"]
    said = [record for record in caplog.records if record.message == "node.key_set_aside"]
    assert next(Path(record.__dict__["aside"]) for record in said) == aside


def test_a_pepper_that_was_made_for_nothing_is_set_aside(leader: Node, follower: Node) -> None:
    make_pepper(follower.directory, 2)
    make_pepper(leader.directory, 2)
    batch = records(PepperRotated(number=2))
    apply(follower, batch, leader.material.beside_of(batch))
    assert load_peppers(follower.directory).numbered(2).root == (leader.directory / "pepper.2").read_bytes()
    assert len(list(follower.directory.glob("pepper.2.unused-*"))) == 1


@pytest.mark.parametrize("kind", ["directory", "link", "mode"])
def test_what_is_no_file_of_ours_is_an_error_that_names_it(leader: Node, follower: Node, kind: str) -> None:
    batch = records(enrolled(leader))
    path = follower.file("atmos20260101r")
    path.parent.mkdir(mode=0o700, parents=True)
    if kind == "directory":
        path.mkdir()
    elif kind == "link":
        path.symlink_to("/nonexistent")
    else:
        path.write_bytes(b"x")
        path.chmod(0o644)
    with pytest.raises(KeyFileError, match=str(path)):
        apply(follower, batch, leader.material.beside_of(batch))


def test_keys_that_are_gone_go_everywhere(leader: Node, follower: Node) -> None:
    batch = records(enrolled(leader))
    apply(follower, batch, leader.material.beside_of(batch))
    gone = records(SigningKeyDeleted(domain=DOMAIN, selector_stem="atmos20260101"))
    assert leader.material.beside_of(gone) == b""
    for _ in range(2):
        apply(follower, gone, b"")
        assert not follower.file("atmos20260101r").exists()
        assert not follower.file("atmos20260101e").exists()


# ------------------------------------------------------------------------------------------------ what is refused


def test_keys_that_are_missing_are_an_error_at_the_leader(leader: Node) -> None:
    event = enrolled(leader)
    leader.file("atmos20260101r").unlink()
    with pytest.raises(KeyFileError, match=r"atmos20260101r\.pem: is missing"):
        leader.material.beside_of(records(event))


def test_keys_that_did_not_come_are_an_error(leader: Node, follower: Node) -> None:
    with pytest.raises(BesideError, match="0 key files came beside a batch whose events speak of 2"):
        apply(follower, records(enrolled(leader)), b"")


def sealed(leader: Node, batch: Sequence[Record], octets: object) -> bytes:
    """As a leader would that does not do as it should."""
    seal = Seal(load_peppers(leader.directory), BESIDE, secrets.token_bytes)
    return seal.seal(msgspec.msgpack.encode(octets), batch[-1].chain)


def test_keys_that_nobody_speaks_of_are_an_error(leader: Node, follower: Node) -> None:
    batch = records(MemberAdded(did=DID))
    with pytest.raises(BesideError, match="2 key files came beside a batch whose events speak of 0"):
        apply(follower, batch, sealed(leader, batch, [b"x", b"y"]))


def test_keys_of_another_event_are_an_error(leader: Node, follower: Node) -> None:
    enrolled(leader)
    keys = [leader.file(f"atmos20260101{kind}").read_bytes() for kind in "re"]
    batch = records(enrolled(leader, "atmos20260101", "b.example"))
    before = contents(follower.directory)
    with pytest.raises(BesideError, match=r"b\.example/atmos20260101r\.pem is not the key that its event"):
        apply(follower, batch, sealed(leader, batch, keys))
    assert contents(follower.directory) == before


def test_what_is_sealed_for_another_batch_is_refused(leader: Node, follower: Node) -> None:
    event = enrolled(leader)
    beside = leader.material.beside_of(records(event))
    with pytest.raises(SealError):
        apply(follower, records(MemberAdded(did=DID), event), beside)
    assert not (follower.directory / "keys").exists()


@pytest.mark.parametrize("octets", [[b"x"], [b"x" * 31], b"not a list", [1]])
def test_what_is_sealed_and_no_key_is_refused(leader: Node, follower: Node, octets: object) -> None:
    batch = records(PepperRotated(number=2))
    with pytest.raises(BesideError):
        apply(follower, batch, sealed(leader, batch, octets))
    assert not (follower.directory / "pepper.2").exists()


@pytest.mark.parametrize(
    ("domain", "stem"),
    [
        ("../../etc", "atmos1"),
        ("a.example/../../x", "atmos1"),
        ("..", "atmos1"),
        ("", "atmos1"),
        ("A.example", "atmos1"),
        ("a.example", "../x"),
        ("a.example", "a/b"),
        ("a.example", ""),
        ("a.example", "a\0b"),
        ("a.example", "a" * 100),
        ("a.example", "."),
    ],
)
def test_no_name_leads_out_of_the_directory(follower: Node, domain: str, stem: str) -> None:
    event = DomainAdded(did=DID, domain=domain, selector_stem=stem, rsa_public="", ed25519_public="")
    gone = SigningKeyDeleted(domain=domain, selector_stem=stem)
    for each in (event, gone):
        with pytest.raises(BesideError, match=r"which is no (domain|selector)"):
            apply(follower, records(each), b"")


@pytest.mark.parametrize("number", [1, 0, -1, 1_000_000])
def test_no_number_is_the_first_pepper_s(follower: Node, number: int) -> None:
    with pytest.raises(BesideError, match="speaks of pepper"):
        apply(follower, records(PepperRotated(number=number)), b"")


def test_files_are_durable_before_it_returns(
    leader: Node, follower: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = records(enrolled(leader))
    beside = leader.material.beside_of(batch)
    synced: set[str] = set()
    fsync = os.fsync

    def noted(descriptor: int) -> None:
        synced.add(os.readlink(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    apply(follower, batch, beside)
    room = follower.file("x").parent
    assert {str(room), str(room.parent), str(room.parent.parent)} <= synced
    assert len([name for name in synced if ".tmp" in name]) == 2
