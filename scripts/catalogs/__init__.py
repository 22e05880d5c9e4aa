"""The redshifts of a run as a catalog: FITS and Parquet."""
