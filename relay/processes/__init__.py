"""Child processes of the relay, and how they are kept: begun by exec, bounded, ended with their parent, made again.

May import what the children are made for. It must never hold a decision: a child computes, and is lost without a loss.
"""
