"""Looking at any ``nn.Module`` while it learns, without changing what it learns."""

from molifold.probes.expressivity import Expressivity, Verdict, expressivity
from molifold.probes.passive import gradient_norms, parameter_norms, update_ratios
from molifold.probes.preserve import preserved, preserved_randomness
from molifold.probes.watch import PASSIVE, Watch

__all__ = [
    "PASSIVE",
    "Expressivity",
    "Verdict",
    "Watch",
    "expressivity",
    "gradient_norms",
    "parameter_norms",
    "preserved",
    "preserved_randomness",
    "update_ratios",
]
