"""The terminal dashboard: a client of the HTTP API and of nothing else."""
