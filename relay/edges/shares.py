"""What one edge is told of the configuration: its share of what all edges have together.

A bound of memory or of sockets is the relay's, whatever number of processes it has. So it is divided, and no edge gets
less than it needs to take one message. What is a bound for one address or member is left as it is: a client comes to
whichever edge is awake first, and would be turned away by one while another has room.
"""

from __future__ import annotations

import msgspec

from relay.config import Config, buffered_bytes_least


def share_of(config: Config, edges: int) -> Config:
    """What each of so many edges has to keep to."""
    submission, inbound = config.submission, config.inbound
    return msgspec.structs.replace(
        config,
        http=msgspec.structs.replace(config.http, connections_max=_part(config.http.connections_max, edges)),
        submission=msgspec.structs.replace(
            submission,
            connections_max=_part(submission.connections_max, edges),
            buffered_bytes_max=_part(
                submission.buffered_bytes_max, edges, buffered_bytes_least(submission.message_bytes_max)
            ),
        ),
        inbound=msgspec.structs.replace(
            inbound,
            connections_max=_part(inbound.connections_max, edges),
            buffered_bytes_max=_part(
                inbound.buffered_bytes_max, edges, buffered_bytes_least(inbound.message_bytes_max)
            ),
        ),
    )


def _part(whole: int, edges: int, least: int = 1) -> int:
    return max(whole // edges, least)
