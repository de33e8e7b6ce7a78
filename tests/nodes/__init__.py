"""Nodes: how they know each other, what they ask each other, and what a follower answers itself."""
