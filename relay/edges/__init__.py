"""Edges in processes of their own: they serve the doors, and ask the core whatever has to be decided.

`words` is what passes between an edge and the core, and nothing else does; `answering` is the core's side of it and
`asking` the edge's, for one edge each, over any channel. `host` keeps the processes, and `program` is what one does.

May import the doors, and what they need to read. An edge must never decide and never write: it has no signing keys, and
what it may do with files is fenced in by the kernel where that can be. It may die at any instruction, and nothing is
lost but its connections.
"""
