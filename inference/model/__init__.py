"""The redshift network and its weights."""
