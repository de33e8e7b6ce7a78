"""The DNS records of members' domains: what they have to be, what they are, and what to mend.

May import `core` and what stands below it. It must never change a domain's state but by an event.
"""
