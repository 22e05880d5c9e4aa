"""What may go wrong with a run, one row each, and one judge for all of them."""
