"""Benchmarks against lower bounds and other libraries; `python -m benchmarks` runs all."""
