"""What an old primary shows, that has come back with rows that no standby had."""

from __future__ import annotations

import pytest
import trio

from tests.spool.replicated.test_following import ANNA, Leader, OwnLog, follower, lead
from tests.world.servers import add
from tests.world.spool import run
from tests.world.table import FakeDatabase


@pytest.mark.parametrize("is_alone", [False, True], ids=["another server has all", "nobody else answers"])
def test_rows_that_nobody_agreed_to_are_told_when_they_are_all_that_there_is(is_alone: bool) -> None:
    """A machine that has just begun does not know in which epoch the last row here was appended, so it cannot tell that
    they are older."""
    database = FakeDatabase()
    bert = follower(database, OwnLog())

    async def main() -> None:
        anna = await lead(database)
        await anna.append(1)
        await anna.renew()
        servers = database.servers
        servers.stall_standbys()
        for number in (2, 3, 4):
            _, row = anna.next(number)
            servers.primary.write(add(row))
            anna.head = anna.head._replace(last_seq=row.last_seq, chain=row.chain)
        servers.fail_over(old_comes_back=True)
        table = database.table("anna")
        table.hosts = ["b", "c"]
        connection = await table.connect()
        head = await connection.take_head(await connection.head(), ANNA)
        assert head is not None
        anna = Leader(connection, head, counter=10)
        await anna.append(5)
        await anna.renew()
        bert.log.last_seq, bert.log.last_chain = anna.head.last_seq, anna.head.chain
        if is_alone:
            servers.primary.kill()
        with trio.move_on_after(5):
            await bert.following.run()

    run(main)
    refused = [trouble for trouble in bert.troubles if "another chain value in the log here" in str(trouble)]
    assert bool(refused) == is_alone
    assert bool(bert.level) != is_alone
    assert bert.seen[0].host == "a"
