"""The model card of the weights: what they are, how good, and what they must not be used for."""

from pathlib import Path

from scripts.models.training.limit import LIMIT_HEAD, Limit
from scripts.models.training.recipe import Recipe
from scripts.models.training.report import TABLE_HEAD, Comparison, Measurement, comparison_head


def model_card(
    recipe: Recipe,
    measurements: list[Measurement],
    comparisons: list[Comparison],
    limits: list[Limit],
    seconds: list[tuple[str, float]],
    *,
    path: Path,
    sha256: str,
) -> str:
    """Write the model card of a trained model.

    Parameters
    ----------
    recipe : Recipe
        How it was trained.
    measurements : list of Measurement
        How good it is.
    comparisons : list of Comparison
        It and the controls, each trained several times.
    limits : list of Limit
        How well simulated redshifts can be predicted at all.
    seconds : list of (str, float)
        Wall time of each phase.
    path : Path
        The weights file.
    sha256 : str
        Its checksum.

    Returns
    -------
    str
        Markdown.
    """
    accuracy, controls = tables(measurements, comparisons)
    return _CARD.format(
        size_mib=path.stat().st_size / 2**20,
        sha256=sha256,
        accuracy=accuracy,
        controls=controls,
        limits="\n".join([LIMIT_HEAD, *(limit.table_row() for limit in limits)]),
        recipe=recipe,
        loss_turn=recipe.loss_unit * recipe.loss_beta,
        warm_up=recipe.pretrain_warmup_steps,
        phases=", ".join(f"{phase} {value:.0f} s" for phase, value in seconds),
        minutes=sum(value for _, value in seconds) / 60,
    )


def tables(measurements: list[Measurement], comparisons: list[Comparison]) -> tuple[str, str]:
    """Format the two tables of the card: the shipped network in detail, and all methods side by side."""
    accuracy = "\n".join([TABLE_HEAD, *(measurement.table_row() for measurement in measurements)])
    head = comparison_head(comparisons[0])
    return accuracy, "\n".join([head, *(comparison.table_row() for comparison in comparisons)])


FUNDING = """\
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
Yale University.
"""
"""What whoever uses SDSS data is asked to say."""

_BODY = """# Model card: astromae.safetensors

AstroMAE (Fathkouhi & Fox 2024, arXiv:2409.01825), 15,902,889 parameters, predicts the redshift of a galaxy from a
five-band 32 by 32 pixel cutout [nanomaggy / pixel] and five extinction-corrected magnitudes [mag] in u, g, r, i, z.
These are not the published weights: `make train` of this repository trained them from scratch.

File: {size_mib:.1f} MiB. Parameters are stored in float16; the first layer of the magnitude branch, the scalings and
the batch-norm statistics in float32. sha256 `{sha256}`.

## What it was trained on

- **Real galaxies**: the 10,000 SDSS galaxies in kcorrect 5.1.9 (`kcorrect/data/test/gst_tests_small.fits`; redshift
  .010-.583, median .099), cleaned to 9,934 (`scripts/simulation/sdss.py` lists the rules). A hash of the position
  splits them: 70 % for training, of which a tenth serves only to select the best step; 30 % (3,033) are the test set,
  which is also the sample dataset.
- **Simulated galaxies**: {recipe.num_synthetic:,} made from the spectral energy distributions of the training galaxies
  alone, redshifted to form a magnitude-limited sample (r < 17.77, uniform in comoving volume), with 15 % luminous red
  galaxies at z = .25-.55. The sizes of {recipe.informative_share:.0%} of them follow from luminosity, colour and
  distance; those of the others carry no information about redshift.
- **All images are rendered**, those of real galaxies too: a de Vaucouleurs bulge and an exponential disc, a
  double-Gaussian point-spread function (1.4 arcsec), SDSS pixels and noise. For a real galaxy, light and shape are
  drawn from its measured model and Petrosian fluxes, never from its redshift: shuffling the redshifts leaves every
  pixel unchanged (a unit test checks this).

## How it was trained

Masked-autoencoder pretraining of the transformer ({recipe.mask_ratio:.0%} of the patches masked, decoder 96 x 2,
{recipe.pretrain_epochs} epochs over {recipe.renderings} renderings of each real galaxy and the simulated ones, batch
{recipe.pretrain_batch}, AdamW {recipe.pretrain_learning_rate}, warm-up {warm_up} steps, cosine). Then the
transformer is frozen: {recipe.head_steps} steps train its head, the magnitude branch and the final layers (batch
{recipe.head_batch}, AdamW {recipe.head_learning_rate}), and {recipe.joint_steps} steps train the inception branch
as well (batch {recipe.joint_batch}, AdamW {recipe.joint_learning_rate}). The loss is the smooth absolute
error of dz, linear beyond {loss_turn:.3f}. Half of each batch is real. The magnitude branch is trained along the
principal axes of the magnitudes (`scripts/models/training/whitening.py`). The weights are a moving average, taken at
the step that does best on the selection galaxies. The supervised stages ran {recipe.num_repeats} times, with seeds from
{recipe.seed}; `training_curves.png` in this folder shows the losses.

Wall time with one thread on two shared x86 cores with bfloat16 units, including controls and repeats:
{minutes:.0f} minutes ({phases}).

## How good it is

dz = (z_phot - z_spec) / (1 + z_spec); NMAD = 1.48 median |dz - median dz|; the 95 % intervals are bootstraps
over the galaxies. R² depends on the spread of redshifts, std(z): compare it only within one sample.
No weight was fitted and no step selected on the test set. One decision did involve some of its galaxies: that the
images contain the Petrosian fluxes was decided by comparing small networks on a random subset of all galaxies, before
this split was made. Numbers of the test set were visible while the recipe was developed, but every choice is the one
that the selection galaxies favour.

{accuracy}

"Other plausible structure" draws the unknown sizes of the real galaxies again; "structure of other galaxies" gives each
galaxy the sizes and shapes of another one, so that the structure in its image carries no information about it.

For comparison, methods trained on the same galaxies: mean and standard deviation over repeats with different
initialisations and batches. The shipped network is the repeat that did best on the selection galaxies.

{controls}

On simulated galaxies the noise of the magnitudes sets the limit, not the network: boosted trees that are given the true
sizes and shapes, which no image shows exactly, hardly improve; given noise-free magnitudes, they do.

{limits}

The weights and numbers published by Staylor et al. 2025 are for another task (659,857 real cutouts, std(z) = .108) and
are not comparable with these.

## What it must not be used for

- Science with real SDSS cutouts: it has never seen one. Rendered images have no neighbours, spiral arms, correlated
  noise or saturated stars; bulge and disc differ in colour by a fixed amount; sizes follow a fitted relation.
- Galaxies at z > .25: few real ones were in training, and the row above shows the bias and the negative R² there.
- Anything fainter than the training galaxies, stars, quasars, or other surveys' filters.
- Galaxies flagged as out of domain, above all those with bad photometry: neither redshift nor sigma is validated there.

Every prediction comes with a sigma, a p(z) and a flag for inputs unlike the training galaxies. Their calibration, what
they hold, and what the flag finds and misses: [CALIBRATION.md](CALIBRATION.md).

## Licences and credits

Weights: Apache-2.0, like the code. Source data: SDSS (public domain), distributed with kcorrect (BSD-3-Clause,
Blanton & Roweis 2007). Size and axis-ratio relations: fitted to CurtinIDS/cic-ml-workshop (CC-BY-4.0), which draws
on Galaxy Zoo (Lintott et al. 2008, 2011) and SDSS.

"""
_CARD = _BODY + FUNDING
