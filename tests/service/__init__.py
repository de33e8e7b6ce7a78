"""The whole relay, started and stopped, killed and starved: what it promises whatever happens to it."""
