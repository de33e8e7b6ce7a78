"""Tests in rooms that are called as those of the code are; `world` is what they share, `house` what guards the tree."""
