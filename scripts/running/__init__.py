"""The parts of `make run`: the request, the dataset, the execution, the live line, the run folder, the result."""
