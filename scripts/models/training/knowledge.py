"""What the card of a model that was trained on the sample says in words."""

from collections.abc import Sequence

from inference.models import Model
from inference.models.card import Knowledge, TrainingData
from scripts.models.training.recipe import Recipe
from scripts.models.training.surveys import Survey
from scripts.simulation.sdss import SHA256


def of_sample(recipe: Recipe, num_real: int, seconds: Sequence[tuple[str, float]]) -> Knowledge:
    """Describe weights that were trained from nothing.

    Parameters
    ----------
    recipe : Recipe
    num_real : int
        Real training galaxies.
    seconds : sequence of (str, float)
        Wall time of each phase.
    """
    phases = ", ".join(f"{phase} {value:.0f} s" for phase, value in seconds)
    return Knowledge(
        description=(
            "AstroMAE (Fathkouhi & Fox 2024, arXiv:2409.01825), trained from nothing on rendered images of SDSS "
            "galaxies and of galaxies simulated from them; these are not the published weights."
        ),
        training=(
            TrainingData(
                name=(
                    f"{num_real:,} real SDSS galaxies in kcorrect 5.1.9 (kcorrect/data/test/gst_tests_small.fits), "
                    "images rendered"
                ),
                num_rows=num_real,
                sha256=SHA256,
            ),
            TrainingData(
                name="galaxies simulated from the spectral energy distributions of those", num_rows=recipe.num_synthetic
            ),
        ),
        split=_SPLIT,
        recipe="\n\n".join(
            (
                _FROM_NOTHING.format(
                    recipe=recipe,
                    loss_turn=recipe.loss_unit * recipe.loss_beta,
                    minutes=sum(value for _, value in seconds) / 60,
                    phases=phases,
                ),
                *_ALIKE,
            )
        ),
        not_for=_NOT_FOR,
        licence=_LICENCE,
    )


def of_surveys(start: Model, surveys: Sequence[Survey]) -> Knowledge:
    """Describe weights whose final layers learned from further galaxies too."""
    known = start.card.knowledge
    return Knowledge(
        description=_FURTHER.format(start=start.in_words),
        training=(*known.training[:2], *(survey.training_data for survey in surveys)),
        split=f"{_SPLIT} {_SPLIT_OF_SURVEYS}",
        recipe="\n\n".join((*_first_part_of(known.recipe), _THEN, *_ALIKE)),
        not_for=_NOT_FOR,
        licence=_LICENCE,
    )


def _first_part_of(recipe: str) -> list[str]:
    return [part for part in recipe.split("\n\n") if part and part not in (_THEN, *_ALIKE)]


_FURTHER = (
    "AstroMAE (Fathkouhi & Fox 2024, arXiv:2409.01825), its final layers trained further. The transformer and the "
    "inception branch are those of {start}, trained on rendered images of SDSS galaxies and of galaxies simulated from "
    "them; the magnitude branch is the four networks of the model for galaxies without images, and the final layers "
    "were trained on all samples below."
)
_SPLIT = (
    "Sample: a hash of the position, 70 % for training, of which a tenth selects and calibrates; 30 % are the test set."
)
_SPLIT_OF_SURVEYS = (
    "Further samples: patches of .5 degrees are whole in one part; about 8 % select and calibrate, 8 % (18 % of "
    "the smaller sample) are tested on. A galaxy within 1.5 arcsec of one of the sample or of an earlier table is left "
    "out."
)
_FROM_NOTHING = """\
First (`make train`): masked-autoencoder pretraining of the transformer ({recipe.mask_ratio:.0%} of the patches masked,
decoder 96 x 2, epochs: {recipe.pretrain_epochs}, renderings of each real galaxy: {recipe.renderings}, batch
{recipe.pretrain_batch}, AdamW {recipe.pretrain_learning_rate}, warm-up {recipe.pretrain_warmup_steps} steps, cosine).
Then the transformer is frozen: {recipe.head_steps} steps train its head, the magnitude branch and the final layers
(batch {recipe.head_batch}, AdamW {recipe.head_learning_rate}), {recipe.joint_steps} steps the inception branch as well
(batch {recipe.joint_batch}, AdamW {recipe.joint_learning_rate}). The loss is the smooth absolute error of dz, linear
beyond {loss_turn:.3f}; half of each batch is real; sizes follow from luminosity, colour and distance in
{recipe.informative_share:.0%} of the simulated galaxies. The weights are a moving average, taken at the step that does
best on the selection galaxies, of the best of trainings with other start values and batches (number:
{recipe.num_repeats}, seeds from {recipe.seed}). `training_curves.png` shows the losses. {minutes:.0f} minutes, with
controls and repeats ({phases})."""
_THEN = """\
Then (`make train TABLES="…" MODEL=name`) all branches are frozen. The magnitude branch becomes the four networks of the
model for galaxies without images side by side, and the final layers begin as their mean; so before the first step its
redshifts are those of that model. 240 steps train the final layers (batch 512, AdamW .001, 40 % sample), four times
with other batches; their mean is kept, as far along the way from the first weights as the loss of no selection part
grows by more than half a percent."""
_ALIKE = (
    """\
**All images are rendered**, those of real galaxies too: a de Vaucouleurs bulge and an exponential disc, a
double-Gaussian point-spread function, SDSS pixels and noise. Light and shape follow from measured model and Petrosian
fluxes and sizes where there are such, from laws of magnitude and colour elsewhere, never from the redshift. So an image
adds to the magnitudes where a profile was measured, as in the sample, and only noise where it was not, as in Stripe
82.""",
    """\
No weight was fitted and no step selected on test galaxies. One decision did involve some of the sample's: that the
images contain the Petrosian fluxes was decided by comparing small networks on a random subset of all galaxies, before
the split was made. Numbers of the tests were visible while the recipes were developed; every choice is the one that the
selection parts favour.""",
    """\
The weights and numbers published by Staylor et al. 2025 are for another task (659,857 real cutouts, std(z) = .108) and
are not comparable with these.""",
    """\
Every prediction comes with a sigma, a p(z) and a flag for inputs unlike the training galaxies. Their calibration, what
they hold, and what the flag finds and misses: [CALIBRATION.md](CALIBRATION.md).""",
)
"""Paragraphs that hold for every training on the sample."""
_NOT_FOR = (
    "science with real cutouts before it was trained on some: it has never seen one, and rendered images have no "
    "neighbours, spiral arms, correlated noise or saturated stars",
    "redshifts above .55",
    "galaxies fainter than r = 21.5",
    "stars and quasars",
    "magnitudes not corrected for Galactic extinction",
    "other surveys' filters",
    "galaxies flagged as out of domain: neither redshift nor sigma is validated there",
)
_LICENCE = """\
Weights: Apache-2.0, like the code. Galaxies: SDSS (public domain), by way of kcorrect (BSD-3-Clause, Blanton & Roweis
2007) and CurtinIDS/cic-ml-workshop (CC-BY-4.0; Galaxy Zoo: Lintott et al. 2008, 2011), to which the relations of size
and axis ratio were fitted as well.

Funding for SDSS-III has been provided by the Alfred P. Sloan Foundation, the Participating Institutions, the National
Science Foundation, and the U.S. Department of Energy Office of Science. The SDSS-III web site is http://www.sdss3.org/.
SDSS-III is managed by the Astrophysical Research Consortium for the Participating Institutions of the SDSS-III
Collaboration including the University of Arizona, the Brazilian Participation Group, Brookhaven National Laboratory,
Carnegie Mellon University, University of Florida, the French Participation Group, the German Participation Group,
Harvard University, the Instituto de Astrofisica de Canarias, the Michigan State/Notre Dame/JINA Participation Group,
Johns Hopkins University, Lawrence Berkeley National Laboratory, Max Planck Institute for Astrophysics, Max Planck
Institute for Extraterrestrial Physics, New Mexico State University, New York University, Ohio State University,
Pennsylvania State University, University of Portsmouth, Princeton University, the Spanish Participation Group,
University of Tokyo, University of Utah, Vanderbilt University, University of Virginia, University of Washington, and
Yale University."""
"""Whom to thank, and what whoever uses SDSS data is asked to say."""
