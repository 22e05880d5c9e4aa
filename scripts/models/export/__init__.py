"""What `make engines` does to a graph between its export and its use."""
