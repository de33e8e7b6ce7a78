"""The DNS records of members' domains: what they have to be (`records`), what is wrong with them and how to mend it
(`diagnosis`), and the look at them once a day (`verification`).

May import `core` and what stands below it. It must never change a domain's state but by an event, and never take from
a domain the right to send because the DNS could not tell.
"""
