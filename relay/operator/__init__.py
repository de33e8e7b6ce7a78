"""The operator's hand: the commands that only the operator may give, and the ways by which they come.

`client` is how the command line gives one, `socket` where a running relay takes it, `protocol` what they say to each
other, and `without_relay` what happens where none runs. The commands themselves are decisions of `relay.registry`, each
with the struct of its arguments: `membership`, `handles`, `queue_orders`, `retention` and `erasure` change something;
`membership_shown` and `queue_shown` only look, and import nothing that they do not need to look. `handle_checks` looks
at members' handles every day.

May import `domains` and everything below it. It must never be reached by a member or a stranger: what they may do goes
through `api`.
"""
