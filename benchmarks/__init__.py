"""Measured against the hardware's floor and against peers; `python -m benchmarks` measures everything."""
