"""Which hosts a connection string names, in which order they are tried, and what is never repeated of it."""

from __future__ import annotations

import pytest

from spool.replicated.hosts import Hosts

SECRET = "hunter2"


def names(hosts: Hosts) -> list[str]:
    return [host.name for host in hosts.in_turn()]


def test_each_host_has_its_own_port_or_the_one_that_all_have() -> None:
    assert names(Hosts("host=a,b,c port=1,2,3 dbname=relay")) == ["a:1", "b:2", "c:3"]
    assert names(Hosts("host=a,b port=5433")) == ["a:5433", "b:5433"]
    assert names(Hosts("postgresql://relay@a:1,b/relay")) == ["a:1", "b"]
    assert names(Hosts("host=/run/postgresql")) == ["/run/postgresql"]
    assert names(Hosts("hostaddr=127.0.0.1")) == ["127.0.0.1"]


def test_all_but_the_hosts_is_the_same_for_each_and_what_is_ours_is_ours() -> None:
    first, second = Hosts(
        f"host=a,b user=relay password={SECRET} target_session_attrs=any connect_timeout=60"
    ).in_turn()
    assert (first.parameters["host"], second.parameters["host"]) == ("a", "b")
    for host in (first, second):
        assert host.parameters["password"] == SECRET
        assert host.parameters["target_session_attrs"] == "read-write"
        assert host.parameters["connect_timeout"] == "2"
        assert host.parameters["tcp_user_timeout"] == "5000"


def test_the_one_that_was_right_is_tried_first_until_another_is_preferred() -> None:
    hosts = Hosts("host=a,b,c")
    hosts.prefer_another()  # none has been used
    assert names(hosts) == ["a", "b", "c"]
    hosts.used(hosts.in_turn()[1])
    assert names(hosts) == ["b", "c", "a"]
    hosts.prefer_another()
    hosts.prefer_another()
    assert names(hosts) == ["c", "a", "b"]
    hosts.used(hosts.in_turn()[0])
    hosts.prefer_another()
    assert names(hosts) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("conninfo", "problem"),
    [
        ("dbname=relay", "names no host"),
        ("", "names no host"),
        ("host=a,,b", "a host that is empty"),
        ("host=a,b port=1,2,3", "names 2 hosts, and port has 3 values"),
        ("host=a,b hostaddr=127.0.0.1", "names 2 hosts, and hostaddr has 1 values"),
        (f"host=a passwort={SECRET}", "cannot be read"),
        (f"host=a password='{SECRET}", "cannot be read"),
        (f"host=a {SECRET}", "cannot be read"),
        (f"postgresql://relay:{SECRET}@[a", "cannot be read"),
        (f"postgresql://relay:{SECRET}@a:x", "a port that is no number"),
        (f"host=db.example password={SECRET} sslmode=require", "db.example is not on this machine"),
        ("host=192.0.2.1 sslmode=disable", "192.0.2.1 is not on this machine"),
        ("host=127.0.0.1,db.example sslmode=prefer", "db.example is not on this machine"),
        ("host=db.example hostaddr=127.0.0.1 sslmode=prefer", "db.example is not on this machine"),
        ("host=localhost hostaddr=192.0.2.1 sslmode=prefer", "localhost is not on this machine"),
    ],
)
def test_what_cannot_be_used_is_said_without_repeating_it(conninfo: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem) as caught:
        Hosts(conninfo)
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize("host", ["db.example", "192.0.2.1", "2001:db8::1"])
def test_who_is_far_away_is_spoken_to_by_tls_with_a_verified_name(host: str) -> None:
    (far,) = Hosts(f"host={host}").in_turn()
    assert far.parameters["sslmode"] == "verify-full"


@pytest.mark.parametrize("host", ["localhost", "127.0.0.2", "::1", "/run/postgresql", "@socket"])
def test_who_is_on_this_machine_need_not_be(host: str) -> None:
    (near,) = Hosts(f"host={host}").in_turn()
    assert "sslmode" not in near.parameters
    (near,) = Hosts(f"host={host} sslmode=require").in_turn()
    assert near.parameters["sslmode"] == "require"


def test_the_environment_names_no_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be one of which nobody has asked where it is."""
    monkeypatch.setenv("PGHOST", "db.example")
    with pytest.raises(ValueError, match="names no host"):
        Hosts("dbname=relay")
