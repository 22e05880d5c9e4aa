"""Real SDSS galaxies and a generator of synthetic ones, rendered as five-band cutouts."""
