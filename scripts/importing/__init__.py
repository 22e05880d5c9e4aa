"""Results as they were published, read as runs."""
