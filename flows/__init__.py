"""Prefect flows: thin orchestration around the functions of `pipeline`."""

from pipeline.private_interfaces import without_unusable_proxies
from pipeline.processes import configure_process

# Before rasterio and Prefect's clients: a worker imports this package first of all, to load its flow or task.
configure_process()
without_unusable_proxies()
