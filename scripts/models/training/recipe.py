"""Every number of a training run, in two sizes: the one that made the shipped weights and a quick rehearsal."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """Settings of a training run."""

    seed: int = 1
    num_repeats: int = 3
    """Times the supervised stages are run, each with other start values and other batches."""
    num_real: int = 10_000
    """Real training galaxies at most."""
    renderings: int = 4
    """Images made of each real training galaxy, with other plausible structure and noise."""
    num_synthetic: int = 40_000
    informative_share: float = 0.5
    """Share of the synthetic training rows whose size follows from their redshift; the others' says nothing."""
    num_test_real: int = 10_000
    """Real galaxies of the test set, at most."""
    num_test_synthetic: int = 4_000
    """Synthetic rows from the sources of the test set, for the model card only."""

    mask_ratio: float = 0.75
    pretrain_epochs: int = 6
    pretrain_batch: int = 256
    pretrain_learning_rate: float = 1.5e-3
    pretrain_weight_decay: float = 0.05
    pretrain_warmup_steps: int = 100

    head_steps: int = 600
    head_batch: int = 512
    head_learning_rate: float = 5e-4
    joint_steps: int = 400
    joint_batch: int = 256
    joint_learning_rate: float = 3e-4
    weight_decay: float = 0.1
    ema_decay: float = 0.998
    loss_unit: float = 0.02
    """dz that counts as one in the loss: about the error to be expected."""
    loss_beta: float = 1.0
    """Where the loss turns from square to absolute, in those units."""


PRETRAINING = frozenset(
    (
        "seed",
        "num_real",
        "renderings",
        "num_synthetic",
        "informative_share",
        *(name for name in Recipe.__dataclass_fields__ if name.startswith(("mask", "pretrain"))),
    )
)
"""Settings the encoder depends on; with others changed, its checkpoint still holds."""

FULL = Recipe()
QUICK = Recipe(
    num_repeats=1,
    num_real=1_500,
    renderings=1,
    num_synthetic=1_500,
    num_test_real=500,
    num_test_synthetic=200,
    pretrain_epochs=1,
    head_steps=50,
    joint_steps=25,
)
