"""How fast: engines, ranks, the generator, compared with the published loop."""
