"""A run's predictions as a catalog that astronomers' tools open."""
