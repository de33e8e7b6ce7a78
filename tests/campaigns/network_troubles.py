"""What happens to the network of a round of `make nodes`: between relays and servers, and to the relays' doors.

All of it is over when the round is: `NodesLife.recover` mends the network before anything else. What was held up until
then arrives late, even what a leader said that is none any more.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import trio

from tests.campaigns.nodes_life import NodesLife
from tests.world.network import Cut, Path, Way, is_port_of

Trouble = Callable[[NodesLife], Awaitable[None]]
#: Longer than a lease.
LONG_SECONDS: Final = 5.0
CUTS_MAX: Final = 4
#: Until an append comes along. With the load of a round it takes milliseconds; where nobody leads, it does not come.
APPEND_SECONDS_MAX: Final = 10.0


async def leader_cut_in_an_append(life: NodesLife) -> None:
    """One connection at a time, before, within and behind what it says."""
    for _ in range(life.dice.randint(1, CUTS_MAX)):
        where = life.dice.choice(list(Cut))
        with trio.move_on_after(APPEND_SECONDS_MAX):
            await _to_the_primary(life).cut_an_append(where)
            life.happened[f"appends whose connection was cut {where.name}"] += 1
        await trio.sleep(life.dice.choice((0.0, 0.2, 2.0)))


async def answer_to_an_append_held(life: NodesLife) -> None:
    """The server has it, and who appended it does not hear so."""
    path = _to_the_primary(life)
    path.hold(Way.BACK)
    await _long_or_short(life)


async def append_held(life: NodesLife) -> None:
    """It arrives when another may have taken the lead."""
    path = _to_the_primary(life)
    path.hold(Way.FORTH)
    await _long_or_short(life)


async def leader_cut_off_the_servers(life: NodesLife) -> None:
    """Followers reach them, and clients and followers reach the leader."""
    for path in life.network.reach_all(life.leader().directory.name):
        path.close()
    await _long_or_short(life)


async def leader_in_silence(life: NodesLife) -> None:
    """It hears nothing from any server, or no server hears it, and connections stand."""
    way = life.dice.choice(list(Way))
    for path in life.network.reach_all(life.leader().directory.name):
        path.hold(way)
    await _long_or_short(life)


async def leader_alone(life: NodesLife) -> None:
    """No server and no node reaches it; clients do."""
    name = life.leader().directory.name
    for path in [*life.network.reach_all(name), life.network.door(name)]:
        _break(life, path)
    await _long_or_short(life)


async def leaders_door_away(life: NodesLife) -> None:
    """What followers ask is lost, or is not asked."""
    _break(life, life.network.door(life.leader().directory.name))
    await _long_or_short(life)


async def leaders_door_shut_to_one(life: NodesLife) -> None:
    """One follower can have nothing decided; it knows who leads, and the other one asks as before."""
    follower = life.follower()

    def is_its(port: int) -> bool:
        return follower.is_running and is_port_of(follower.pid, port)

    life.network.door(life.leader().directory.name).close_to(is_its)
    await _long_or_short(life)


async def follower_cut_off_the_servers(life: NodesLife) -> None:
    """It shows what it has, and has the leader decide."""
    for path in life.network.reach_all(life.follower().directory.name):
        _break(life, path)
    await _long_or_short(life)


async def primary_cut_off_all_nodes(life: NodesLife) -> None:
    """Its standbys stand by."""
    for node in life.nodes.all:
        _break(life, life.network.reach(node.directory.name, life.servers.primary.name))
    await _long_or_short(life)


async def all_connections_cut(life: NodesLife) -> None:
    """Again and again; each may be made anew at once."""
    for _ in range(life.dice.randint(1, 2 * CUTS_MAX)):
        for path in life.network.all:
            path.cut()
        await trio.sleep(life.dice.uniform(0, 1))


NETWORK_TROUBLES: Final[tuple[Trouble, ...]] = (
    leader_cut_in_an_append,
    answer_to_an_append_held,
    append_held,
    leader_cut_off_the_servers,
    leader_in_silence,
    leader_alone,
    leaders_door_away,
    leaders_door_shut_to_one,
    follower_cut_off_the_servers,
    primary_cut_off_all_nodes,
    all_connections_cut,
)


def _to_the_primary(life: NodesLife) -> Path:
    return life.network.reach(life.leader().directory.name, life.servers.primary.name)


def _break(life: NodesLife, path: Path) -> None:
    """In one of the ways in which it breaks."""
    if life.dice.random() < 0.5:
        path.close()
    else:
        path.hold(*life.dice.choice(((Way.FORTH,), (Way.BACK,), tuple(Way))))


async def _long_or_short(life: NodesLife) -> None:
    await trio.sleep(life.dice.choice((1.0, LONG_SECONDS, 2 * LONG_SECONDS)))
