"""Who has led from which event on."""

from __future__ import annotations

from relay.events import MemberAdded, NodeLeads
from relay.views.nodes import KEPT_MAX, leader, leaders
from tests.world.history_views import History, fold


def test_nobody_leads_a_relay_of_one_machine() -> None:
    with fold([MemberAdded(did="did:plc:a")]) as view:
        assert leader(view) is None


def test_the_last_one_leads_and_those_before_it_are_known_but_not_without_end() -> None:
    history: History = [
        NodeLeads(node=f"mx{number}", epoch=number, address="") for number in range(KEPT_MAX + 5)
    ]
    with fold(history) as view:
        last = leader(view)
        assert last is not None
        assert (last.node, last.seq, last.epoch) == (f"mx{KEPT_MAX + 4}", KEPT_MAX + 5, KEPT_MAX + 4)
        assert [one.epoch for one in leaders(view)] == list(range(KEPT_MAX + 4, 4, -1))
