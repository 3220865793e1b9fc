"""Prefect flows: thin orchestration around the functions of `pipeline`."""
