"""Looking at any ``nn.Module`` while it learns, without changing what it learns."""

from molifold.probes.activations import activations, watch_activations
from molifold.probes.alignment import alignment, representations, watch_layers
from molifold.probes.attention import AttentionProbe
from molifold.probes.attribution import AttributionProbe, atom_attribution
from molifold.probes.curvature import curvature, watch_curvature
from molifold.probes.expressivity import Expressivity, Verdict, expressivity, molecular_sources, watch_expressivity
from molifold.probes.gradient_noise import gradient_noise, watch_gradient_noise
from molifold.probes.passive import gradient_norms, parameter_norms, update_ratios
from molifold.probes.preserve import preserved, preserved_randomness
from molifold.probes.ranks import feature_ranks, watch_ranks, weight_ranks
from molifold.probes.similarity import input_similarity
from molifold.probes.smoothing import SmoothingProbe
from molifold.probes.spikes import LossSpikes
from molifold.probes.squashing import SquashingProbe
from molifold.probes.view import View
from molifold.probes.watch import DEFAULT, PASSIVE, Watch

__all__ = [
    "AttentionProbe",
    "AttributionProbe",
    "DEFAULT",
    "Expressivity",
    "LossSpikes",
    "PASSIVE",
    "SmoothingProbe",
    "SquashingProbe",
    "Verdict",
    "View",
    "Watch",
    "activations",
    "alignment",
    "atom_attribution",
    "curvature",
    "expressivity",
    "feature_ranks",
    "gradient_noise",
    "gradient_norms",
    "input_similarity",
    "molecular_sources",
    "parameter_norms",
    "preserved",
    "preserved_randomness",
    "representations",
    "update_ratios",
    "watch_activations",
    "watch_curvature",
    "watch_expressivity",
    "watch_gradient_noise",
    "watch_layers",
    "watch_ranks",
    "weight_ranks",
]
