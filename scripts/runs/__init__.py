"""One run from its request to its folder: start, follow, find again, bring home, read."""
