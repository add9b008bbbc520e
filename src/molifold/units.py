"""Units of the package, once and for all: nm, ps, kJ/mol, K, radians, dalton; reduced energies in kT."""

from __future__ import annotations

#: Boltzmann (molar gas) constant in kJ/mol/K; exact since the 2019 SI (CODATA 2018).
BOLTZMANN = 8.31446261815324e-3

#: One unit of the key, in nm.
LENGTH = {"nm": 1.0, "angstrom": 0.1, "bohr": 0.0529177210903, "pm": 1e-3}

#: One unit of the key, in kJ/mol (CODATA 2018).
ENERGY = {"kJ/mol": 1.0, "kcal/mol": 4.184, "eV": 96.48533212331002, "hartree": 2625.4996394798254}


def kT(temperature: float) -> float:
    """Thermal energy in kJ/mol at ``temperature`` (K).

    Raises:
        ValueError: if the temperature is not positive.

    >>> round(kT(300.0), 4)
    2.4943
    """
    if not temperature > 0:
        raise ValueError(f"temperature: got {temperature!r}, expected a positive number of kelvin")
    return BOLTZMANN * temperature


def length_factor(unit: str) -> float:
    """Factor that turns a length in ``unit`` into nm.

    Raises:
        ValueError: if the unit is unknown.

    >>> length_factor("angstrom")
    0.1
    """
    return _factor(LENGTH, unit, "length unit")


def energy_factor(unit: str) -> float:
    """Factor that turns an energy in ``unit`` into kJ/mol.

    Raises:
        ValueError: if the unit is unknown.

    >>> energy_factor("kcal/mol")
    4.184
    """
    return _factor(ENERGY, unit, "energy unit")


def _factor(table: dict[str, float], unit: str, what: str) -> float:
    try:
        return table[unit]
    except KeyError:
        raise ValueError(f"{what}: got {unit!r}, expected one of {', '.join(table)}") from None
