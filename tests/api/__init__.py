"""HTTP as members, their recipients and strangers meet it: every path, and the connections below them."""
