"""Webhooks: the secrets that sign, the bodies, what an endpoint is sent next, and the task that sends it.

The invariant: **an endpoint is told of events in the order of the log, each at least once, and no gap is silent.** A
webhook's cursor moves when its endpoint has answered 2xx, and never by itself.

May import `core` and what stands below it. It must never write anything but `webhook.*` events, never hold what is not
told yet in memory (the log has it), and never let one endpoint's trouble slow another's.
"""
