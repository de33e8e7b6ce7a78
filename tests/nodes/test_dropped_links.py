"""Links of which some have died, while another node takes the lead."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from relay.nodes import links as links_module
from relay.nodes.links import Links, NotAskedError
from relay.nodes.words import Node
from tests.nodes.test_links import ANSWER, A, by_script, saying


def test_links_that_are_dropped_while_one_that_has_died_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(links: Links) -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(links.ask, A, b"?", None)
        assert links.made == 2
        close = links_module._Link.close

        async def close_while_another_takes_the_lead(link: links_module._Link) -> None:
            links.drop_all_but(Node("c", "c.example", 8125))
            await close(link)

        monkeypatch.setattr(links_module._Link, "is_quiet", lambda link: False)
        monkeypatch.setattr(links_module._Link, "close", close_while_another_takes_the_lead)
        with pytest.raises(NotAskedError):
            await links.ask(A, b"?", None)

    by_script(tmp_path, test, saying(ANSWER), saying(ANSWER))
