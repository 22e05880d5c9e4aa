"""Corrections of moto 5.2.1, each in one function with its reason and when it can go; the tests hold one for each."""


def apply_all() -> None:
    """Apply every correction; once, before the first request."""
