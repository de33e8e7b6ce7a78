"""All SQL of a replicated log, and its tables.

They live in a schema of their own, so that they can be in any database, and go as one. What is written with
`%(name)s` is a value.

- An append and a take-over of the head are one statement each, with the head's row locked. Its conditions are looked at
  again when somebody else's change of it has been waited for, so of two that expect the same head one finds it changed.
- `part` is the part of `batches` that is written to. Parts are told apart by a number that stands in the head, not by a
  time: so there is always one for the next row, whatever any clock says.
- What need not outlive a failover is written with `quick`: it does not wait for replication, nor for a disk. Such a
  statement may notify. An append may not: a notification takes a lock that all who notify share, and would keep it
  while it waits for standbys.
- A lease waits for this server's disk: only what is there goes to standbys, and whoever acts by a lease asks whether
  one has it. It does not wait for that itself, or who reads would not see it move while standbys are slow. Where
  standbys cannot be seen, it waits as an append does.
"""

from __future__ import annotations

from typing import Final

from spool.replicated.promise import SEES_STANDBYS, SETTINGS, Promise, guard

#: Of the tables. Another one is not understood here.
FORM: Final = 1
SCHEMA: Final = "replicated_log"
CHANNEL: Final = "replicated_log"
#: At most so many at once, however small.
ROWS_MAX: Final = 1024

# ------------------------------------------------------------------------------------------------ a session

#: A statement that waits for a lock so long has not happened.
LOCK_SECONDS: Final = 3
#: Where others use the tables meanwhile, who keeps them stands back.
LOCK_SECONDS_KEEPING: Final = 1

#: What a session sets for itself, where the server knows it. Nothing may cancel a statement of ours but a lock that
#: does not come, and the server is to notice as soon as we do that its peer has gone.
SESSION: Final = {
    "client_min_messages": "notice",
    "default_transaction_isolation": "read committed",
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0",
    "lock_timeout": f"{LOCK_SECONDS}s",
    "search_path": "pg_catalog",
    "statement_timeout": "0",
    "tcp_keepalives_count": "3",
    "tcp_keepalives_idle": "2",
    "tcp_keepalives_interval": "1",
    "tcp_user_timeout": "5s",
    "transaction_timeout": "0",
}
SET: Final = """
SELECT set_config(name, value, false) FROM unnest(%(names)s::text[], %(values)s::text[]) AS wanted(name, value)
WHERE current_setting(name, true) IS NOT NULL"""

#: One row: SETTINGS in order, SEES_STANDBYS, whether there are tables.
CHECK: Final = f"""
SELECT {", ".join(f"current_setting('{name}') AS {name}" for name in SETTINGS)},
  CASE WHEN pg_has_role(current_user, 'pg_read_all_stats', 'USAGE') THEN 'on' ELSE 'off' END AS {SEES_STANDBYS},
  EXISTS (SELECT FROM pg_namespace WHERE nspname = '{SCHEMA}') AS is_founded"""
IS_FOUNDED: Final = f"SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = '{SCHEMA}')"
READ_FORM: Final = f"SELECT form FROM {SCHEMA}.head"

# ------------------------------------------------------------------------------------------------ the head and rows

READ_HEAD: Final = f"SELECT epoch, holder, last_seq, chain FROM {SCHEMA}.head"


def take_head(promise: Promise) -> str:
    return f"""
UPDATE {SCHEMA}.head SET epoch = epoch + 1, holder = %(holder)s
WHERE epoch = %(known)s AND {guard(promise)}
RETURNING epoch, holder, last_seq, chain"""


def append(promise: Promise) -> str:
    return f"""
WITH moved AS (
  UPDATE {SCHEMA}.head SET last_seq = %(last_seq)s, chain = %(chain)s
  WHERE epoch = %(epoch)s AND holder = %(holder)s AND last_seq = %(first_seq)s - 1 AND chain = %(previous_chain)s
    AND {guard(promise)}
  RETURNING part, epoch
)
INSERT INTO {SCHEMA}.batches (part, first_seq, last_seq, epoch, previous_chain, chain, data, beside)
SELECT part, %(first_seq)s, %(last_seq)s, epoch, %(previous_chain)s, %(chain)s, %(data)b, %(beside)b FROM moved"""


#: What is stored apart is not fetched for its length, and the one row that is larger than what is wanted not at all.
READ_ROWS: Final = f"""
SELECT first_seq, last_seq, epoch, previous_chain, chain, CASE WHEN octets <= %(octets_max)s THEN data END,
  CASE WHEN octets <= %(octets_max)s THEN beside END, octets
FROM (
  SELECT *, sum(octet_length(data)::bigint + octet_length(beside)) OVER (ORDER BY first_seq)::bigint AS octets,
    row_number() OVER (ORDER BY first_seq) AS number
  FROM (
    SELECT * FROM {SCHEMA}.batches WHERE first_seq > %(after_seq)s ORDER BY first_seq LIMIT {ROWS_MAX}
  ) AS next
) AS counted
WHERE last_seq <= %(up_to_seq)s AND (octets <= %(octets_max)s OR number = 1)
ORDER BY first_seq"""
READ_DATA: Final = f"SELECT data, beside FROM {SCHEMA}.batches WHERE first_seq = %(first_seq)s"
READ_OLDEST: Final = f"SELECT min(first_seq) FROM {SCHEMA}.batches"

# ------------------------------------------------------------------------------------------------ the witness

_QUICK: Final = "quick AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true))"


def witness(promise: Promise) -> str:
    """One row: an LSN, and whether a synchronous standby has flushed it. `lsn`: the one to ask for; NULL: the one that
    this server has flushed now."""
    return f"SELECT lsn::text, {_is_witnessed(promise)} FROM (SELECT {_WANTED_LSN} AS lsn) AS wanted"


def witness_and_say(promise: Promise) -> str:
    """The same; and where it is so, all are told that rows up to `last_seq` are witnessed, in the lease of `holder`."""
    return f"""
WITH {_QUICK}, wanted AS MATERIALIZED (
  SELECT {_WANTED_LSN} AS lsn FROM quick
), seen AS MATERIALIZED (
  SELECT lsn, {_is_witnessed(promise)} AS is_witnessed FROM wanted
), said AS (
  UPDATE {SCHEMA}.lease SET witnessed_seq = %(last_seq)s, witnessed_chain = %(chain)s FROM seen
  WHERE is_witnessed AND holder = %(holder)s AND witnessed_seq < %(last_seq)s
)
SELECT lsn::text, is_witnessed, CASE WHEN is_witnessed THEN pg_notify('{CHANNEL}', '') END FROM seen"""


_WANTED_LSN: Final = "coalesce(%(lsn)s::pg_lsn, pg_current_wal_flush_lsn())"
#: A standby that counts, and that could be promoted: what only keeps the WAL, as `pg_receivewal` and a `pg_basebackup`
#: under way do, replays none of it, and who reads from a logical slot, as a subscription does, is another database.
#: PostgreSQL counts those, too, where `synchronous_standby_names` is `*`.
_STANDBY: Final = (
    "FROM pg_stat_replication WHERE sync_state IN ('sync', 'quorum') AND replay_lsn IS NOT NULL AND NOT EXISTS "
    "(SELECT FROM pg_replication_slots WHERE active_pid = pid AND slot_type = 'logical')"
)


def _is_witnessed(promise: Promise) -> str:
    if promise is not Promise.STANDBYS:
        return "true"
    return f"EXISTS (SELECT {_STANDBY} AND flush_lsn >= lsn)"


def _has_standby(promise: Promise) -> str:
    if promise is not Promise.STANDBYS:
        return "true"
    return f"EXISTS (SELECT {_STANDBY})"


# ------------------------------------------------------------------------------------------------ lease, nodes, news

READ_LEASE: Final = (
    f"SELECT epoch, holder, address, counter, witnessed_seq, witnessed_chain FROM {SCHEMA}.lease"
)


def write_lease(promise: Promise) -> str:
    """One row where it was written. What an append of the same holder has said is witnessed stays, where it can be: a
    word that is not its own, or is ahead of the head, was changed by somebody."""
    # Whoever took the head while this was under way has written its lease already: the head was seen as it was before.
    return _write_lease(promise, "old.epoch <= excluded.epoch OR old.holder = excluded.holder")


def take_lease(promise: Promise) -> str:
    """The same, where the lease is the one that is known."""
    return _write_lease(
        promise,
        "(old.epoch, old.holder, old.counter) = "
        "(%(known_epoch)s::bigint, %(known_holder)s::bytea, %(known_counter)s::bigint)",
    )


def _write_lease(promise: Promise, replaces: str) -> str:
    """`replaces`: what holds of the lease that is there; it is looked at with that row locked."""
    level = "on" if promise is Promise.PROVIDER else "local"
    return f"""
WITH flushed AS MATERIALIZED (SELECT set_config('synchronous_commit', '{level}', true)), held AS (
  SELECT last_seq FROM {SCHEMA}.head, flushed
  WHERE holder = %(holder)s AND epoch = %(epoch)s AND last_seq >= %(witnessed_seq)s AND {_has_standby(promise)}
), before AS (
  SELECT max(witnessed_seq) AS witnessed_seq FROM {SCHEMA}.lease
), written AS (
  INSERT INTO {SCHEMA}.lease AS old (epoch, holder, address, counter, witnessed_seq, witnessed_chain)
  SELECT %(epoch)s, %(holder)s, %(address)s, %(counter)s, %(witnessed_seq)s, %(witnessed_chain)s FROM held
  ON CONFLICT (one) DO UPDATE SET epoch = excluded.epoch, holder = excluded.holder, address = excluded.address,
    counter = excluded.counter,
    witnessed_seq = CASE WHEN {_KEEPS_WORD} THEN old.witnessed_seq ELSE excluded.witnessed_seq END,
    witnessed_chain = CASE WHEN {_KEEPS_WORD} THEN old.witnessed_chain ELSE excluded.witnessed_chain END
  WHERE {replaces}
  RETURNING true
)
SELECT CASE WHEN before.witnessed_seq IS DISTINCT FROM %(witnessed_seq)s THEN pg_notify('{CHANNEL}', '') END
FROM written, before"""


_KEEPS_WORD: Final = (
    "old.holder = excluded.holder AND old.witnessed_seq > excluded.witnessed_seq "
    "AND old.witnessed_seq <= (SELECT max(last_seq) FROM held)"
)


#: Longer ones are not a node's. All nodes read all of them each second.
FACTS_OCTETS_MAX: Final = 64 * 1024
READ_NODES: Final = f"""
SELECT name, CASE WHEN octet_length(facts) <= {FACTS_OCTETS_MAX} THEN facts ELSE '' END
FROM {SCHEMA}.nodes ORDER BY name"""
WRITE_NODE: Final = f"""
WITH {_QUICK} INSERT INTO {SCHEMA}.nodes (name, facts) SELECT %(name)s, %(facts)s FROM quick
ON CONFLICT (name) DO UPDATE SET facts = excluded.facts"""
REMOVE_NODE: Final = f"DELETE FROM {SCHEMA}.nodes WHERE name = %(name)s"

READ_TIME: Final = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
LISTEN: Final = f"LISTEN {CHANNEL}"

# ------------------------------------------------------------------------------------------------ the tables

#: Rows of one that is changed all the time stay on their page, and their old versions go without a vacuum.
_ONE_ROW: Final = "one boolean PRIMARY KEY DEFAULT true CHECK (one)"
CREATE: Final = (
    f"CREATE SCHEMA {SCHEMA}",
    f"""CREATE TABLE {SCHEMA}.head ({_ONE_ROW}, form smallint NOT NULL, part bigint NOT NULL, epoch bigint NOT NULL,
    holder bytea NOT NULL, last_seq bigint NOT NULL, chain bytea NOT NULL) WITH (fillfactor = 20)""",
    # What is in it is sealed, and cannot be compressed.
    f"""CREATE TABLE {SCHEMA}.batches (part bigint NOT NULL, first_seq bigint NOT NULL, last_seq bigint NOT NULL,
    epoch bigint NOT NULL, previous_chain bytea NOT NULL, chain bytea NOT NULL, data bytea NOT NULL,
    beside bytea NOT NULL, PRIMARY KEY (first_seq, part)) PARTITION BY LIST (part)""",
    f"""ALTER TABLE {SCHEMA}.batches ALTER data SET STORAGE EXTERNAL, ALTER beside SET STORAGE EXTERNAL,
    ALTER previous_chain SET STORAGE PLAIN, ALTER chain SET STORAGE PLAIN""",
    f"""CREATE TABLE {SCHEMA}.lease ({_ONE_ROW}, epoch bigint NOT NULL, holder bytea NOT NULL, address text NOT NULL,
    counter bigint NOT NULL, witnessed_seq bigint NOT NULL, witnessed_chain bytea NOT NULL)
    WITH (fillfactor = 20)""",
    f"CREATE TABLE {SCHEMA}.nodes (name text PRIMARY KEY, facts text NOT NULL) WITH (fillfactor = 20)",
)
CREATE_HEAD: Final = f"""
INSERT INTO {SCHEMA}.head (form, part, epoch, holder, last_seq, chain)
VALUES ({FORM}, %(part)s, %(epoch)s, %(holder)s, %(last_seq)s, %(chain)s)"""

LOCK_ALL: Final = f"LOCK TABLE {SCHEMA}.head IN ACCESS EXCLUSIVE MODE"
#: It says what goes with it, as a notice, and only warnings matter.
HUSH: Final = "SELECT set_config('client_min_messages', 'warning', true)"
DROP_ALL: Final = f"DROP SCHEMA {SCHEMA} CASCADE"

#: Held by the session that keeps the tables until it ends.
KEEP_ALONE: Final = "SELECT pg_try_advisory_lock(7022718)"
READ_OCTETS: Final = f"""
SELECT coalesce(sum(pg_total_relation_size(pg_class.oid)), 0)::bigint
FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace WHERE nspname = '{SCHEMA}' AND relkind = 'r'"""
