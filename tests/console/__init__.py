"""The console in the browser, as members and attackers meet it."""
