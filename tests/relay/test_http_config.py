"""`[http] trusted_proxies` and `monitors`: addresses and networks, checked at the start; what is wrong is said in a
sentence, with its line."""

from __future__ import annotations

import pytest

from relay.config import ConfigError, parse_config
from relay.networks import counted_as, is_within, parse_address, parse_networks

#: Three lines, and the table's.
HEAD = 'operator_domain = "relay.example"\npublic_url = "https://relay.example"\n\n[http]\n'


def test_good_ones() -> None:
    text = 'trusted_proxies = ["10.0.0.0/8", "192.0.2.1", "2001:db8::/32", "::1"]\nmonitors = ["0.0.0.0/0", "::/0"]\n'
    http = parse_config(HEAD + text).http
    assert http.trusted_proxies == ("10.0.0.0/8", "192.0.2.1", "2001:db8::/32", "::1")
    assert http.monitors == ("0.0.0.0/0", "::/0")
    assert parse_config(HEAD + "trusted_proxies = []").http.trusted_proxies == ()


def test_defaults() -> None:
    http = parse_config(HEAD).http
    assert (http.connections_per_address_max, http.monitors) == (100, ())
    networks = parse_networks(http.trusted_proxies)
    for address, is_trusted in (("127.0.0.1", True), ("127.1.2.3", True), ("::1", True), ("10.0.0.1", False)):
        assert is_within(parse_address(address), networks) is is_trusted


@pytest.mark.parametrize("setting", ["trusted_proxies", "monitors"])
@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ("proxy.example", "expected an address or a network, as 192.0.2.1, 192.0.2.0/24 or 2001:db8::/32"),
        ("10.0.0.0/33", "expected an address or a network"),
        ("10.0.0.0/8/8", "expected an address or a network"),
        ("192.0.2.1:8025", "expected an address or a network"),
        ("[::1]", "expected an address or a network"),
        ("", "expected an address or a network"),
        ("localhost", "expected an address or a network"),
        ("10.0.0.1/8", "the network's own address is 10.0.0.0/8"),
        ("2001:db8::1/64", "the network's own address is 2001:db8::/64"),
        ("fe80::1%eth0", "write the address without a zone"),
        ("::ffff:10.0.0.1", "write an IPv4 address as such, without ::ffff:"),
        ("::ffff:10.0.0.0/104", "write an IPv4 address as such, without ::ffff:"),
    ],
)
def test_wrong_ones(setting: str, wrong: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as raised:
        parse_config(HEAD + f'{setting} = [\n  "::1",\n  "{wrong}",\n]\n')
    assert str(raised.value).startswith("relay.toml line 5: ")
    assert f"http.{setting}[1]: {sentence}" in str(raised.value)


@pytest.mark.parametrize("everybody", ["0.0.0.0/0", "::/0"])
def test_nobody_may_be_believed_just_so(everybody: str) -> None:
    with pytest.raises(ConfigError, match="name the proxies"):
        parse_config(HEAD + f'trusted_proxies = ["{everybody}"]\n')


@pytest.mark.parametrize("value", ['"10.0.0.1"', "[1]", "true"])
def test_wrong_types(value: str) -> None:
    with pytest.raises(ConfigError, match=r"http\.trusted_proxies"):
        parse_config(HEAD + f"trusted_proxies = {value}\n")


@pytest.mark.parametrize("value", ["0", "-1", '"100"'])
def test_a_limit_is_one_or_more(value: str) -> None:
    with pytest.raises(ConfigError, match=r"line 5: http\.connections_per_address_max"):
        parse_config(HEAD + f"connections_per_address_max = {value}\n")


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:0:1:2:3:4:5", "2001:db8:0:1::/64"),
        ("2001:db8:0:1::", "2001:db8:0:1::/64"),
        ("fe80::1%eth0", "fe80::/64"),
    ],
)
def test_what_an_address_is_counted_as(address: str, counted: str) -> None:
    assert counted_as(parse_address(address)) == counted
