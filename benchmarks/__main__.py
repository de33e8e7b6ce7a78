"""`make bench`: every benchmark, one after the other."""

import runpy

for name in ("append", "compose_sign", "accept", "deliver", "hostile", "memory"):
    print(f"== {name}", flush=True)
    runpy.run_module(f"benchmarks.{name}", run_name="__main__")
