"""What a user runs: one module per command of the Makefile."""
