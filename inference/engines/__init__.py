"""What computes the redshifts: one small interface, one module per library."""
