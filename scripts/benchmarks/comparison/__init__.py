"""Comparisons: the same rows by the plain library, by the local AWS, by AWS, and against the published tables."""
