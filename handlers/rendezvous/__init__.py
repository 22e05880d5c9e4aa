"""The rendezvous server: ranks that send the same name are given each other's address, or a connection through it.

One process, asyncio, nothing but the standard library: ``python -m handlers.rendezvous``.
"""
