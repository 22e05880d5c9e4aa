"""What `make bench` measures, and how it shows it."""
