"""The simulated worlds, by name: what one seed of each is, and which troubles it can draw."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from tests.campaigns.faults import FAULTS, draw_faults
from tests.campaigns.log_story import LOG_FAULTS, draw_log_faults, simulate_logs
from tests.campaigns.node_story import NODE_FAULTS, draw_node_faults, simulate_nodes
from tests.campaigns.story import Run, simulate


class SimulatedWorld(NamedTuple):
    simulate: Callable[..., Run]
    """Takes the seed, and where everything is kept, as `directory`, which is not there yet."""
    faults: Sequence[str]
    draw: Callable[[int], tuple[str, ...]]


WORLDS: Final[Mapping[str, SimulatedWorld]] = {
    "one": SimulatedWorld(simulate, FAULTS, draw_faults),
    "logs": SimulatedWorld(simulate_logs, LOG_FAULTS, draw_log_faults),
    "nodes": SimulatedWorld(simulate_nodes, NODE_FAULTS, draw_node_faults),
}
