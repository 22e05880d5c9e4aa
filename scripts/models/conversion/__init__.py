"""Published checkpoints into our format and back; never part of a run."""
