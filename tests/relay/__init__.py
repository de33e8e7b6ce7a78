"""The modules that stand in relay/ itself: words, configuration, events, the calls of members' unsubscribe URLs."""
