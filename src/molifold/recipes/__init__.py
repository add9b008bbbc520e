"""Recipes that ship with the package, as TOML files; copy one and change it."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent


def recipes() -> tuple[str, ...]:
    """Names of the recipes that ship.

    >>> "alanine-dipeptide" in recipes()
    True
    """
    return tuple(sorted(path.stem for path in FOLDER.glob("*.toml")))


def find(recipe: str | Path) -> Path:
    """The file that ``recipe`` means: a path, or the name of one that ships.

    Raises:
        FileNotFoundError: if it is neither.

    >>> find("alanine-dipeptide").name
    'alanine-dipeptide.toml'
    """
    path = Path(recipe)
    if path.is_file():
        return path
    shipped = FOLDER / f"{recipe}.toml"
    if path.name == str(recipe) and shipped.is_file():
        return shipped
    raise FileNotFoundError(f"recipe: no file {recipe}, and no shipped recipe of that name: {', '.join(recipes())}")
