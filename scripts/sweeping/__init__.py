"""Sweeps: which runs, in which order, what each of them measured, and what follows from it."""
