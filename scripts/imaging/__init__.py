"""The worker's container image: its lock file, how it is built, run and pushed."""
