"""Domains: the DNS records that a member is told, the diagnosis of what is there, and verification."""
