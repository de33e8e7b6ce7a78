"""Databases for the table's suite, in memory and in servers that the tests of a module share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.world.postgres import Servers, open_servers
from tests.world.tables import LITTLE_PATIENCE, Database, DatabaseInMemory, DatabaseInPostgres


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    with open_servers() as opened:
        yield opened


@pytest.fixture(params=["memory", "postgres"])
def database(request: pytest.FixtureRequest) -> Iterator[Database]:
    if request.param == "memory":
        yield DatabaseInMemory()
        return
    servers: Servers = request.getfixturevalue("servers")
    database = DatabaseInPostgres(servers)
    yield database
    servers.drop_database(database.conninfo)


@pytest.fixture
def harmed(database: Database, request: pytest.FixtureRequest) -> Iterator[Database]:
    """A database whose servers may fail, and are mended afterwards."""
    if isinstance(database, DatabaseInMemory):
        yield database
        return
    yield database
    servers: Servers = request.getfixturevalue("servers")
    servers.mend()


@pytest.fixture
def hasty(harmed: Database) -> Database:
    """For a test in which somebody never answers: nobody waits for that for long."""
    if isinstance(harmed, DatabaseInPostgres):
        harmed.patience = LITTLE_PATIENCE
    return harmed
