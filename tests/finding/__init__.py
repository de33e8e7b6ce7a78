"""Questions about many messages: `relay.finding`."""
