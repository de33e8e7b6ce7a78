"""Edges: the contract of the seam by both of its carriers, and real processes that are killed and stopped."""
