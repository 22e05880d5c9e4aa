"""The parts of `make plan apply destroy`: the terraform program, and the data that would be deleted."""
