"""A relay on more than one machine: who leads, what a node knows of the others, and how it asks them.

The log is agreed upon below (`spool.replicated`); here is what a relay makes of that. A node follows until nobody
leads, then it leads, and when another has taken its place it ends. It may import all that a running relay shares, and
never decides anything that a member or the operator asked for: that is `relay.core`'s.
"""
