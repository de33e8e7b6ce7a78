"""What the tests of resolve share."""

# Addresses that are nobody's but public by registry; nothing here connects to anything.
PUBLIC = "93.184.215.14"


PUBLIC_V6 = "2606:2800:21f:cb07:6820:80da:af6b:8b2c"
