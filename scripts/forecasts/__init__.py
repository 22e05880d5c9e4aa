"""How long a run will take and what it will cost: a simulation, fitted to published runs, calibrated on one's own."""
