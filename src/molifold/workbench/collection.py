"""What a workbench shows: the runs and ensembles found under some folders, by names that stay."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from molifold.ensemble import Ensemble
from molifold.runs import Run
from molifold.store import HEADER

#: How deep folders are searched for runs and stores, and how many are shown.
DEPTH, MANY = 4, 500


class Collection:
    """Runs and ensembles under ``paths``, looked up anew at every call, so that new ones appear.

    Only what was found here can be asked for: a name that a page sends is never joined to a path.

    Args:
        paths: runs, ensemble stores, trajectories that ``data.load`` can read with their topology, or folders of them.

    Raises:
        FileNotFoundError: if a path does not exist.
    """

    def __init__(self, paths: Sequence[str | Path]) -> None:
        self.roots = tuple(Path(p).resolve() for p in paths)
        for given, root in zip(paths, self.roots, strict=True):
            if not root.exists():
                raise FileNotFoundError(f"paths: {given} does not exist, expected a run, an ensemble store or a folder")

    def runs(self) -> dict[str, Path]:
        """Directories of runs by name."""
        return {name: path for name, path in self._found() if (path / "run.json").exists()}

    def ensembles(self) -> dict[str, Path]:
        """Ensemble stores by name; those of a run are ``RUN/NAME``."""
        found: dict[str, Path] = {}
        for name, path in self._found():
            if (path / "run.json").exists():
                inside = sorted(p.parent for p in (path / "ensembles").glob(f"*/{HEADER}"))
                found |= {f"{name}/{p.name}": p for p in inside}
            else:
                found[name] = path
        return found

    def run(self, name: str) -> Run:
        """The run of that name.

        Raises:
            KeyError: if there is none.
        """
        return Run.open(_named(self.runs(), name, "run"))

    def ensemble(self, name: str) -> Ensemble:
        """The ensemble of that name, as memory maps.

        Raises:
            KeyError: if there is none.
        """
        return Ensemble.load(_named(self.ensembles(), name, "ensemble"))

    def _found(self) -> Iterator[tuple[str, Path]]:
        seen: set[str] = set()
        for root in self.roots:
            for path in _walk(root, DEPTH):
                inner = path.relative_to(root).as_posix()
                name = root.name if inner == "." else inner if len(self.roots) == 1 else f"{root.name}/{inner}"
                while name in seen:
                    name += "'"
                seen.add(name)
                yield name, path
                if len(seen) == MANY:
                    return


def _walk(path: Path, depth: int) -> Iterator[Path]:
    if (path / "run.json").exists() or (path / HEADER).exists():
        yield path
    elif depth and path.is_dir():
        try:
            # A link could lead out of the folder that was named.
            inner = sorted(e.path for e in os.scandir(path) if e.is_dir(follow_symlinks=False) and e.name[0] != ".")
        except PermissionError:
            return
        for folder in inner:
            yield from _walk(Path(folder), depth - 1)


def _named(known: dict[str, Path], name: str, what: str) -> Path:
    if name not in known:
        raise KeyError(f"{what}: got {name!r}, expected one of {', '.join(list(known)[:10]) or 'none yet'}")
    return known[name]
