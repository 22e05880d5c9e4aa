"""Where training computes, and in which precision its products are."""

from contextlib import AbstractContextManager, nullcontext

import torch

from scripts.command.errors import UsageError


def choose_device(name: str = "auto") -> torch.device:
    """Return the device of that name; ``auto`` is a GPU where torch finds one.

    Raises
    ------
    UsageError
        If there is none.
    """
    has_gpu = torch.cuda.is_available()
    if name == "cuda" and not has_gpu:
        raise UsageError("DEVICE=cuda: torch finds no GPU here. Leave DEVICE out to train on the CPU.")
    return torch.device("cuda" if has_gpu and name != "cpu" else "cpu")


def mixed_precision(device: torch.device) -> AbstractContextManager[object]:
    """Multiply in bfloat16 where that is faster: on a GPU, and on a CPU whose vectors are wide enough for it."""
    if device.type == "cuda" or torch.backends.cpu.get_cpu_capability().startswith("AVX512"):
        return torch.autocast(device.type, torch.bfloat16)
    return nullcontext()
