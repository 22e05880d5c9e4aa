"""What is known to be wrong with one galaxy's input, as bits of one byte."""

import enum


class Quality(enum.IntFlag):
    """Flags of one galaxy; 0 is a clean one. They travel as uint8 with the predictions and the dataset's table."""

    IMPUTED_BAND = 1
    """A magnitude is missing and was estimated from the other bands."""

    FILLED_PIXELS = 2
    """Pixels are missing and were replaced with sky."""

    LOW_SIGNAL = 4
    """The flux in g, r, i or z is less than 5 of its standard errors."""

    COLOR_OUTLIER = 8
    """A colour is more than 8 robust standard deviations from that of the training galaxies."""

    HIGH_EXTINCTION = 16
    """Galactic extinction in r exceeds 0.5 mag: its correction is uncertain."""

    OUT_OF_DOMAIN = 32
    """The input is unlike what the model was trained on."""

    REFUSED = 64
    """Too little was measured for a redshift: no r, more than two bands missing, or too many pixels or central ones.

    With IMPUTED_BAND or FILLED_PIXELS it says which; what stands in the place of the values is not a measurement.
    """
