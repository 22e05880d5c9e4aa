"""A run of which only its published records are known: read, checked, described."""
