"""`python -m tests.house`: every fence that no other tool looks at. Exit status 1, and a line for each breach."""

import sys

from tests.house.purity import find_impurities, find_rooms_without_a_place
from tests.house.shape import find_long_files, find_silent_rooms


def main() -> int:
    found = [*find_impurities(), *find_rooms_without_a_place(), *find_long_files(), *find_silent_rooms()]
    for sentence in found:
        print(sentence)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
