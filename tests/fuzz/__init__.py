"""A mutation fuzzer of everything that reads a delivery: `python -m tests.fuzz --n 10000 --seed 3`."""
