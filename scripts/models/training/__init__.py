"""The steps that turn galaxies into the weights of the redshift network."""
