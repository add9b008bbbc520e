"""Training objectives."""

from molifold.losses.losses import log_dispersion, nll, reverse_kl

__all__ = ["log_dispersion", "nll", "reverse_kl"]
