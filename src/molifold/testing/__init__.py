"""Laws for implementations of the package's protocols, yours and ours."""

from molifold.testing.energy import check_energy
from molifold.testing.network import check_network
from molifold.testing.probe import check_probe
from molifold.testing.transform import check_transform

__all__ = ["check_energy", "check_network", "check_probe", "check_transform"]
