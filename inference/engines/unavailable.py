"""What an engine raises that cannot be used; a file of its own, so that the image's compiler needs no other."""


class UnavailableError(Exception):
    """An engine cannot be used here; the message says why. Never leaves `inference.engines.load`."""
