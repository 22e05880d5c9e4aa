"""Galaxies drawn from real photometry: populations, spectra, structure, images."""
