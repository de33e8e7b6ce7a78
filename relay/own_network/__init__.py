"""Whether the world sees this relay as receivers want it: names, records, ports, and the way out.

May import `delivery`, `domains` and what stands below. It must never change or record anything, nor send mail: it looks
and tells. What it connects to are the relay's own ports, its `public_url`, the directory of DIDs (for the time), the
name servers, and one server of each of a few large providers, each once and with a QUIT.
"""
