"""What datasets are made from besides the generator: tables, published files, FITS cutouts, other datasets."""
