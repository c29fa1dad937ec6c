"""What a report says of the values of a metric."""

import dataclasses
import math

import numpy as np
from jaxtyping import Float


@dataclasses.dataclass(frozen=True)
class Summary:
    """The values of many samples in short.

    Attributes:
        mean: over the samples that have a value; NaN where none has.
        std: their standard deviation (divided by the count), NaN where none has.
        count: how many have one.
        failures: how many have none: a face that was not found, an empty mask.
    """

    mean: float
    std: float
    count: int
    failures: int

    def __str__(self) -> str:
        failed = f", {self.failures} failed" if self.failures else ""
        return f"{self.mean:.4g} +- {self.std:.2g} (N {self.count}{failed})"


def summarise(values: Float[np.ndarray, " n"]) -> Summary:
    """Mean and spread of per-sample values, of which those that are not finite count as failures."""
    values = np.asarray(values, np.float64)
    good = values[np.isfinite(values)]
    if not len(good):
        return Summary(math.nan, math.nan, 0, len(values))
    return Summary(float(good.mean()), float(good.std()), len(good), len(values) - len(good))
