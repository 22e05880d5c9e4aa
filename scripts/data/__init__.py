"""Datasets: tables, cutouts and published files in, shards out; their cleaning and verification."""
