"""How good predictions are: intervals, bins, tables and plots, from plain arrays."""
