"""Files of traffic counters: one module a format."""
