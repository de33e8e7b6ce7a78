"""What one edge gets of the configuration: never less than it needs, and together what all are to have."""

from __future__ import annotations

import msgspec
import pytest

from relay.buffers import RECEIVING_OCTETS_LEAST, receiving_octets
from relay.config import PROCESSES_MAX, buffered_bytes_least, parse_config
from relay.config_doors import HttpConfig
from relay.edges.shares import share_of
from relay.edges.words import Greeting, ServedOn

BODY_BYTES_MAX = HttpConfig().send_bytes_max

CONFIG = parse_config('operator_domain = "relay.example"\npublic_url = "https://relay.example"\n')


@pytest.mark.parametrize("edges", range(1, PROCESSES_MAX + 1))
def test_each_can_take_one_message_and_all_have_what_there_is(edges: int) -> None:
    share = share_of(CONFIG, edges)
    for before, after in ((CONFIG.submission, share.submission), (CONFIG.inbound, share.inbound)):
        least = buffered_bytes_least(before.message_bytes_max)
        assert after.buffered_bytes_max == max(least, before.buffered_bytes_max // edges)
        assert 0 <= before.connections_max - after.connections_max * edges < edges
        assert after.connections_per_address_max == before.connections_per_address_max
    assert 0 <= CONFIG.http.connections_max - share.http.connections_max * edges < edges
    assert share.http.streams_max == CONFIG.http.streams_max  # the core counts them
    # A quarter is one member's.
    for send_bytes_max in (64 * 1024, BODY_BYTES_MAX, 12 * 1024 * 1024):
        room = receiving_octets(HttpConfig(send_bytes_max=send_bytes_max), edges)
        assert room == max(RECEIVING_OCTETS_LEAST // edges, 4 * send_bytes_max)
    if edges == 1:
        assert share == CONFIG


def test_more_edges_than_connections_have_one_each() -> None:
    few = msgspec.structs.replace(CONFIG, http=msgspec.structs.replace(CONFIG.http, connections_max=3))
    assert share_of(few, 16).http.connections_max == 1


def test_a_greeting_is_read_as_it_was_written() -> None:
    greeting = Greeting(
        directory="/data",
        config=share_of(CONFIG, 2),
        peppers={1: b"\0" * 32, 2: b"\1" * 32},
        ticket_key=b"\2" * 64,
        edges=2,
        certificate=None,
        http=ServedOn("127.0.0.1:1", 1),
        submission=(ServedOn("localhost:2", 2),),
        inbound=(),
    )
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(greeting), type=Greeting) == greeting
