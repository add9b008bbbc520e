"""Training objectives."""

from molifold.losses.latent import elbo, latent_objective, propagation, vamp2, vamp2_score
from molifold.losses.losses import log_dispersion, nll, reverse_kl

__all__ = ["elbo", "latent_objective", "log_dispersion", "nll", "propagation", "reverse_kl", "vamp2", "vamp2_score"]
