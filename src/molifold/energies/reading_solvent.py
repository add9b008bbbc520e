"""Read implicit solvent: ``GBSAOBCForce``, and the ``CustomGBForce`` expressions that OpenMM's app layer writes.

A CustomGBForce is a program of formulas. Only the exact formulas of HCT, OBC1, OBC2, GBn and GBn2 (with or without
salt, cutoff and the ACE surface term) are understood; they are compared as text, and the numbers in them are read
off.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy import ndarray

from molifold.energies.parameters import COULOMB, UnsupportedForceError

#: Coulomb constant written into OpenMM's custom formulas (that of GBSAOBCForce has more digits).
CUSTOM_COULOMB = 138.935485
_N = r"([-+0-9.e]+)"

_DESCREENING = (
    "select(step(r+sr2-or1),0.5*(1/L-1/U+0.25*(r-sr2^2/r)*(1/(U^2)-1/(L^2))+0.5*log(L/U)/r),0);"
    "U=r+sr2;L=max(or1,D);D=abs(r-sr2)"
)
_NECK = (
    "Ivdw+neckScale*Ineck;Ineck=step(radius1+radius2+neckCut-r)*getm0(radindex1,radindex2)/"
    "(1+100*(r-getd0(radindex1,radindex2))^2+0.3*1000000*(r-getd0(radindex1,radindex2))^6);"
    f"Ivdw={_DESCREENING};radius1=or1+offset;radius2=or2+offset"
)
_PARAMETERS = (
    f"solventDielectric={_N};soluteDielectric={_N};kappa={_N};offset={_N}"  # of every energy term
    f"(?:;cutoff={_N})?"
)


class UnreadableFormulaError(ValueError):
    """A formula that is none of the known ones."""


def read_obc(force: Any, atoms: int) -> dict[str, ndarray]:
    """GBSAOBCForce: OBC2 with the ACE surface term."""
    rows = [force.getParticleParameters(i) for i in range(atoms)]
    charge, radius = (np.array([r[k]._value for r in rows]) for k in (0, 1))
    inner = radius - 0.009
    cutoff = force.getCutoffDistance()._value if force.getNonbondedMethod() == force.CutoffNonPeriodic else 0.0
    surface = 4 * np.pi * force.getSurfaceAreaEnergy()._value
    return _fields(
        charge=charge,
        inner=inner,
        scaled=inner * np.array([r[2] for r in rows]),
        radius=radius,
        shape=np.tile([1.0, 0.8, 4.85], (atoms, 1)),
        surface=surface,
        solvent=(
            COULOMB / force.getSoluteDielectric(),
            COULOMB / force.getSolventDielectric(),
            0.0,
            cutoff,
            1.0,
        ),
    )


def read_custom_gb(force: Any, atoms: int) -> dict[str, ndarray]:
    """A CustomGBForce with the formulas of HCT, OBC1, OBC2, GBn or GBn2."""
    try:
        return _read_custom_gb(force, atoms)
    except UnreadableFormulaError as error:
        raise UnsupportedForceError("CustomGBForce", f"has {error}") from None


def _read_custom_gb(force: Any, atoms: int) -> dict[str, ndarray]:
    if force.getNumExclusions() or force.getNumGlobalParameters() or force.getNumComputedValues() != 2:
        raise UnreadableFormulaError("exclusions, global parameters or more than two computed values")
    names = [force.getPerParticleParameterName(k) for k in range(force.getNumPerParticleParameters())]
    rows = np.array([force.getParticleParameters(i) for i in range(atoms)], float).reshape(atoms, -1)
    column = dict(zip(names, rows.T, strict=True))
    (name_i, pair, _), (name_b, single, _) = (force.getComputedValueParameters(k) for k in (0, 1))
    if (name_i, name_b) != ("I", "B") or not {"charge", "or", "sr"} <= set(names):
        raise UnreadableFormulaError(f"computed values {name_i}, {name_b} and parameters {', '.join(names)}")
    shape, offset = _radius_formula(_plain(single), column)
    solvent, surface, offset = _energy_terms(force, offset)
    fields = _fields(
        charge=column["charge"],
        inner=column["or"],
        scaled=column["sr"],
        radius=column["or"] + offset,
        shape=shape,
        surface=surface,
        solvent=solvent,
    )
    return fields | _neck(force, _plain(pair), column)


def _fields(
    *, charge: ndarray, inner: ndarray, scaled: ndarray, radius: ndarray, shape: ndarray, surface: float, solvent: Any
) -> dict[str, ndarray]:
    return {
        "gb_charge": charge,
        "gb_inner": inner,
        "gb_scaled": scaled,
        "gb_radius": radius,
        "gb_shape": shape,
        "gb_surface": surface * (radius + 0.14) ** 2 * radius**6,  # 0.14 nm: radius of a water molecule
        "gb_solvent": np.array(solvent, float),
    }


def _plain(formula: str) -> str:
    return re.sub(r"\s", "", formula)


def _radius_formula(formula: str, column: dict[str, ndarray]) -> tuple[ndarray, float | None]:
    """Coefficients of the tanh [atoms, 3] (none for HCT), and the radius offset."""
    atoms = len(column["or"])
    if formula == "1/(1/or-I)":
        return np.zeros((0, 3)), None
    tail = rf"\)/radius\);psi=I\*or;radius=or\+offset;offset={_N}"
    if match := re.fullmatch(r"1/\(1/or-tanh\(alpha\*psi-beta\*psi\^2\+gamma\*psi\^3" + tail, formula):
        return np.stack([column["alpha"], column["beta"], column["gamma"]], 1), float(match[1])
    series = rf"1/\(1/or-tanh\((?:{_N}\*)?psi(?:-{_N}\*psi\^2)?\+{_N}\*psi\^3"
    if match := re.fullmatch(series + tail, formula):
        a, b, c, offset = (float(g) if g else None for g in match.groups())
        return np.tile([1.0 if a is None else a, b or 0.0, c], (atoms, 1)), offset
    raise UnreadableFormulaError(f"an unknown formula for the Born radius, {formula!r}")


def _energy_terms(force: Any, offset: float | None) -> tuple[tuple[float, ...], float, float]:
    """Solvent parameters, surface constant and radius offset from the energy terms."""
    seen: dict[str, tuple[str | None, ...]] = {}
    surface = 0.0
    for k in range(force.getNumEnergyTerms()):
        formula = _plain(force.getEnergyTermParameters(k)[0])
        salt = r"(?:exp\(-kappa\*(?:B|f)\)|1)/solventDielectric"
        patterns = {
            "self": rf"-0\.5\*138\.935485\*\(1/soluteDielectric-{salt}\)\*charge\^2/B;{_PARAMETERS}",
            "surface": rf"{_N}\*\(radius\+0\.14\)\^2\*\(radius/B\)\^6;radius=or\+offset;{_PARAMETERS}",
            "pair": rf"-138\.935485\*\(1/soluteDielectric-{salt}\)\*charge1\*charge2(?:/f|\*\(1/f-{_N}\));"
            rf"f=sqrt\(r\^2\+B1\*B2\*exp\(-r\^2/\(4\*B1\*B2\)\)\);{_PARAMETERS}",
        }
        for name, pattern in patterns.items():
            if match := re.fullmatch(pattern, formula):
                groups = match.groups()
                if name == "surface":
                    surface = float(groups[0])
                seen[name] = groups
                break
        else:
            raise UnreadableFormulaError(f"an unknown energy term, {formula!r}")
    if not {"self", "pair"} <= set(seen):
        raise UnreadableFormulaError("no self or no pair term")
    shift, solvent, solute, kappa, offset_, _ = seen["pair"]
    offset = float(offset_ or 0) if offset is None else offset
    cutoff = 1 / float(shift) if shift else 0.0
    used = force.getCutoffDistance()._value if force.getNonbondedMethod() == force.CutoffNonPeriodic else 0.0
    if not np.isclose(cutoff, used, rtol=1e-12):
        raise UnreadableFormulaError("a cutoff distance that differs from the one in its formula")
    screen = CUSTOM_COULOMB / float(solvent or 1)
    return (CUSTOM_COULOMB / float(solute or 1), screen, float(kappa or 0), cutoff, 0.0), surface, offset


def _neck(force: Any, formula: str, column: dict[str, ndarray]) -> dict[str, ndarray]:
    """Parameters of the neck correction for every pair, from the tables d0 and m0."""
    if formula == _DESCREENING:
        return {}
    match = re.fullmatch(re.escape(_NECK) + rf";neckScale={_N};neckCut={_N};offset={_N}", formula)
    if not match:
        raise UnreadableFormulaError(f"an unknown formula for the descreening integral, {formula!r}")
    scale, reach, offset = map(float, match.groups())
    tables = {}
    for k in range(force.getNumTabulatedFunctions()):
        columns, rows, values = force.getTabulatedFunction(k).getFunctionParameters()
        tables[force.getTabulatedFunctionName(k)] = np.array(values).reshape(rows, columns).T
    kind = np.rint(column["radindex"]).astype(int)
    i, j = np.triu_indices(len(kind), 1)
    height, position = (tables[name][kind[:, None], kind[None]] for name in ("getm0", "getd0"))
    sum_of_radii = column["or"][i] + column["or"][j] + 2 * offset
    neck = [scale * height[i, j], position[i, j], scale * height[j, i], position[j, i], sum_of_radii + reach]
    return {"gb_neck": np.stack(neck, 1)}
