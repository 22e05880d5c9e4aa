"""Learning rates over a training stage."""

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def warm_cosine(optimizer: Optimizer, warmup_steps: int, num_steps: int) -> LambdaLR:
    """Rise linearly for some steps (a tenth of a short stage), then fall to zero along half a cosine."""
    warmup = min(warmup_steps, max(1, num_steps // 10))

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, num_steps - warmup))))

    return LambdaLR(optimizer, factor)
