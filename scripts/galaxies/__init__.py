"""Real SDSS galaxies, synthetic ones made from them, and their images."""
