"""Couriers in processes of their own: what composes, signs and talks to receivers, on other cores than the one that
writes.

`words` is what passes, `away` is one courier as the core sees it, `host` is all of them, `program` is the child's side.
The room may import `relay.delivery`, which does not know in which process it is, and `relay.processes`, which knows
nothing of mail. A courier reads the views, the log and the keys of the data directory; it must never write anything,
nor decide whether a message is tried: what is to be recorded, the core records.
"""
