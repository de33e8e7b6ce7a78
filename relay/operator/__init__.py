"""The operator's hand: the admin socket and the commands that it carries, and what they do.

May import `domains` and everything below it. It must never be reached by a member or a stranger: what they may do goes
through `api`.
"""
