"""Reports of runs and sweeps: one self-contained page, and the same as Markdown."""
