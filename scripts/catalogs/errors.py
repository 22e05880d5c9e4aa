"""Why a catalog is not written."""


class CatalogError(Exception):
    """The run's files do not make a catalog; the message says which and what to do. Exit status 1."""
