"""How fast: engines, ranks, the generator, beside the published loop."""
