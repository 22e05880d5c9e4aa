"""The worker's container image: build, run, push, lock."""
