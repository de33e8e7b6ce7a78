"""`atmos-relay log ...`: what can be asked of a log, and done to it; a file for each command, or for two that are near.

`selection` says which events are meant, `event_text` how one is shown. These commands read the files of the log
themselves, beside a running relay or on a copy; what changes a log that is served goes through `relay.operator`.

May import what `tools` may. It must never need a relay that runs, nor be in the way of one.
"""
