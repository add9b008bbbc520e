"""The analytic test systems of the field. Positions are [batch, particles, dimensions], without units.

Their potentials are in units of kT at ``temperature`` 1: here a temperature is a multiple of that, not a number of
kelvin.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor


class Analytic(ABC):
    """An energy given by a formula; subclasses write ``potential``."""

    #: Particles and dimensions of a conformation.
    shape: tuple[int, int]

    def __init__(self, *, temperature: float = 1.0) -> None:
        if not temperature > 0:
            raise ValueError(f"temperature: got {temperature}, expected a positive number")
        self.temperature = float(temperature)

    @abstractmethod
    def potential(self, x: Float[Tensor, "batch particles dim"]) -> Float[Tensor, " batch"]:
        """Potential energy in units of kT at temperature 1."""

    def at(self, temperature: float) -> Self:
        """The same potential at another temperature."""
        if not temperature > 0:
            raise ValueError(f"temperature: got {temperature}, expected a positive number")
        other = copy.copy(self)
        other.temperature = float(temperature)
        return other

    def __call__(self, x: Float[Tensor, "batch particles dim"]) -> Float[Tensor, " batch"]:
        """Reduced potential.

        Raises:
            ValueError: if ``x`` has another shape.
        """
        if x.ndim != 3 or tuple(x.shape[1:]) != self.shape:
            raise ValueError(f"x: got shape {list(x.shape)}, expected [batch, {self.shape[0]}, {self.shape[1]}]")
        return self.potential(x) / self.temperature

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.shape[0]} particles in {self.shape[1]}D, temperature {self.temperature:g})"


class DoubleWell(Analytic):
    """One particle in two dimensions, ``a x^4 / 4 - b x^2 / 2 + c x + d y^2 / 2``.

    The formula and defaults are those printed in Noe et al., arXiv 1812.01729 (free energy difference of the wells
    4.777). Their code (noegroup/paper_boltzmann_generators, double_well.py) leaves the factors 1/4 and 1/2 of x out:
    that is ``DoubleWell(a=4, b=12)``.

    >>> float(DoubleWell()(torch.tensor([[[1.0, 2.0]]])))
    0.25
    """

    shape = (1, 2)

    def __init__(
        self, *, a: float = 1.0, b: float = 6.0, c: float = 1.0, d: float = 1.0, temperature: float = 1.0
    ) -> None:
        super().__init__(temperature=temperature)
        self.a, self.b, self.c, self.d = a, b, c, d

    def potential(self, x: Float[Tensor, "batch 1 2"]) -> Float[Tensor, " batch"]:
        """See the class."""
        first, second = x[:, 0, 0], x[:, 0, 1]
        return self.a * first**4 / 4 - self.b * first**2 / 2 + self.c * first + self.d * second**2 / 2


class MuellerBrown(Analytic):
    """One particle on the surface of Mueller and Brown, Theor. Chim. Acta 53, 75 (1979), doi:10.1007/BF00547608.

    ``scale`` multiplies it; 0.1 as in Noe et al., arXiv 1812.01729. Unscaled minima: -146.70, -108.17, -80.77.

    >>> energy = MuellerBrown(scale=1.0)
    >>> round(float(energy(torch.tensor([[[-0.5582, 1.4417]]]))), 2)
    -146.7
    """

    shape = (1, 2)

    def __init__(self, *, scale: float = 0.1, temperature: float = 1.0) -> None:
        super().__init__(temperature=temperature)
        self.scale = scale

    def potential(self, x: Float[Tensor, "batch 1 2"]) -> Float[Tensor, " batch"]:
        """See the class."""
        #       height  xx     xy   yy     centre
        rows = ((-200.0, -1.0, 0.0, -10.0, 1.0, 0.0), (-100.0, -1.0, 0.0, -10.0, 0.0, 0.5),
                (-170.0, -6.5, 11.0, -6.5, -0.5, 1.5), (15.0, 0.7, 0.6, 0.7, -1.0, 1.0))  # fmt: skip
        height, xx, xy, yy, x0, y0 = torch.tensor(rows, dtype=x.dtype, device=x.device).unbind(1)
        dx, dy = x[:, 0, :1] - x0, x[:, 0, 1:] - y0
        return self.scale * (height * torch.exp(xx * dx**2 + xy * dx * dy + yy * dy**2)).sum(1)


class ParticleDimer(Analytic):
    """A bistable dimer (particles 0 and 1) in a box of 36 repelling particles, in two dimensions.

    Noe et al., arXiv 1812.01729, with the formulas and constants of the authors' code (particle_dimer.py). With d the
    dimer's length and e = 2 (d - 1.5), the dimer has ``slope e - 25 e^2 + 10 e^4``; its centre is held at x = 0 and
    both ends at y = 0 by springs (20); a wall costs 200 times the squared depth beyond +-3; all other pairs repel
    with (1.1 / r)^12. ``slope`` is -0.5 in the paper and in the code's defaults, 2 in the parameters that one of
    their notebooks prints.

    >>> x = torch.zeros(1, 38, 2, dtype=torch.float64)
    >>> x[0, :2, 0] = torch.tensor([-0.75, 0.75])
    >>> x[0, 2:] = torch.cartesian_prod(torch.linspace(-2.9, 2.9, 6), torch.linspace(-2.9, 2.9, 6))
    >>> bool(abs(ParticleDimer().dimer(x)) < 1e-12)
    True
    """

    def __init__(self, *, solvent: int = 36, slope: float = -0.5, temperature: float = 1.0) -> None:
        super().__init__(temperature=temperature)
        self.shape = (solvent + 2, 2)
        self.slope = slope

    def dimer(self, x: Float[Tensor, "batch particles 2"]) -> Float[Tensor, " batch"]:
        """Energy of the dimer alone, with the springs that hold it."""
        ends = x[:, :2]
        held = 20 * (ends[:, 0, 0] + ends[:, 1, 0]) ** 2 + 20 * (ends[:, :, 1] ** 2).sum(1)
        e = 2 * ((ends[:, 0] - ends[:, 1]).norm(dim=-1) - 1.5)
        return held + self.slope * e - 25 * e**2 + 10 * e**4

    def potential(self, x: Float[Tensor, "batch particles 2"]) -> Float[Tensor, " batch"]:
        """See the class."""
        wall = 200 * ((x.abs() - 3).clamp_min(0) ** 2).sum((1, 2))
        r2 = _squared_distances(x)[:, 1:]  # the first pair is the dimer
        return self.dimer(x) + wall + ((1.1**2 / r2) ** 6).sum(1)


class DW4(Analytic):
    """Four particles in two dimensions; every pair is a double well, ``-4 (r - 4)^2 + 0.9 (r - 4)^4``.

    Koehler, Klein, Noe (2020), arXiv 2006.02425, at kT = 1.

    >>> round(float(DW4()(torch.tensor([[[0.0, 0], [4, 0], [0, 4], [4, 4]]]))), 3)
    -8.397
    """

    shape = (4, 2)

    def potential(self, x: Float[Tensor, "batch 4 2"]) -> Float[Tensor, " batch"]:
        """See the class."""
        d = _squared_distances(x).sqrt() - 4
        return (-4 * d**2 + 0.9 * d**4).sum(1)


class LJ13(Analytic):
    """Thirteen Lennard-Jones particles on springs: ``2 sum_pairs (r^-12 - 2 r^-6) + sum |x - centre|^2 / 2``.

    As in Koehler, Klein, Noe (2020), arXiv 2006.02425, whose sum runs over ordered pairs (hence the 2); their data
    fulfil the virial theorem of exactly this energy on the 36 dimensions that remain when the centre is fixed.

    >>> LJ13().shape
    (13, 3)
    """

    shape = (13, 3)

    def potential(self, x: Float[Tensor, "batch 13 3"]) -> Float[Tensor, " batch"]:
        """See the class."""
        r6 = _squared_distances(x) ** -3
        centred = x - x.mean(1, keepdim=True)
        return 2 * (r6**2 - 2 * r6).sum(1) + 0.5 * (centred**2).sum((1, 2))


def _squared_distances(x: Float[Tensor, "batch particles dim"]) -> Float[Tensor, "batch pairs"]:
    """All pairs i < j, row by row."""
    i, j = torch.triu_indices(x.shape[1], x.shape[1], 1, device=x.device)
    return ((x[:, i] - x[:, j]) ** 2).sum(-1)
