"""The desk answers what a page asks. No web in here: server, notebook and file on disk carry the same answers."""

from __future__ import annotations

import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from molifold.data import write
from molifold.ensemble import Ensemble
from molifold.workbench.collection import Collection
from molifold.workbench.headlines import headline
from molifold.workbench.measured import Measured
from molifold.workbench.packing import join, pack
from molifold.workbench.recorded import picture_of_record
from molifold.workbench.statistics import Statistics, statistics_of

#: Ensembles whose columns are kept at the same time.
KEPT = 4
#: A page may ask for this many structures or measured frames at once.
MOST_FRAMES, MOST_ROWS = 1000, 5000
#: Files that a page can save.
KINDS = ("pdb", "xtc", "dcd")


class Desk:
    """Answers to questions by name, each a block of ``packing``.

    Args:
        collection: what can be asked for.
    """

    def __init__(self, collection: Collection) -> None:
        self.collection = collection
        self._measured: OrderedDict[str, Measured] = OrderedDict()
        # Measuring takes a while and pages ask for several columns at once; the first one's work serves all.
        self._lock, self._thinking = threading.Lock(), threading.Lock()
        self._known: dict[tuple[str, str, int], Statistics] = {}
        self.questions: dict[str, Callable[..., bytes]] = {
            "items": self.items, "run": self.run, "tail": self.tail, "record": self.record,
            "ensemble": self.ensemble, "column": self.column, "frames": self.frames, "rows": self.rows,
            "request": self.request, "statistics": self.statistics, "statistic": self.statistic, "file": self.file,
        }  # fmt: skip

    def answer(self, question: str, arguments: Mapping[str, Any]) -> bytes:
        """The answer to one question.

        Raises:
            KeyError: if there is no such question, run, ensemble, record or column.
            TypeError, ValueError: if an argument is wrong.
        """
        if question not in self.questions:
            raise KeyError(f"question: got {question!r}, expected one of {', '.join(self.questions)}")
        return self.questions[question](**arguments)

    def items(self) -> bytes:
        """Every run with its headline numbers, every ensemble with its size."""
        runs = [headline(name, path) for name, path in self.collection.runs().items()]
        ensembles = []
        for name, path in self.collection.ensembles().items():
            try:
                e = Ensemble.load(path)
                ensembles.append(
                    {"name": name, "frames": len(e), "molecule": e.molecule.name, "atoms": e.molecule.n_atoms}
                )
            except (ValueError, OSError) as error:
                ensembles.append({"name": name, "error": str(error)})
        return pack({"runs": runs, "ensembles": ensembles, "time": time.time()})

    def run(self, name: str) -> bytes:
        """What a run is: its settings, records, ensembles and checkpoints."""
        run = self.collection.run(name)
        info = {k: v for k, v in run.info.items() if k != "molecule"}
        records = [
            {"name": record, "steps": list(steps), **run.about(record)}
            for record, steps in run.records.items()
            if steps
        ]
        return pack({
            "name": name, "state": run.state, "info": info, "records": records,
            "ensembles": [f"{name}/{e}" for e in run.ensembles], "checkpoints": list(run.checkpoints),
        })  # fmt: skip

    def tail(self, name: str, *, scalars: int = 0, events: int = 0) -> bytes:
        """Scalars and events after two cursors, by column; ``step`` and ``time`` are always among them."""
        run = self.collection.run(name)
        rows, next_scalars = run.scalars(since=scalars)
        news, next_events = run.events(since=events)
        names = dict.fromkeys(key for row in rows for key, value in row.items() if isinstance(value, int | float))
        columns = {key: np.array([row.get(key, np.nan) for row in rows], dtype=np.float64) for key in names}
        return pack({
            "state": run.state, "scalars": next_scalars, "events": next_events, "columns": columns, "news": news,
            "records": {record: list(steps) for record, steps in run.records.items()}, "time": time.time(),
        })  # fmt: skip

    def record(self, name: str, *, record: str, step: int | None = None) -> bytes:
        """One record of a run as a picture."""
        run = self.collection.run(name)
        return join(*picture_of_record(run, record, step=step).encode())

    def ensemble(self, name: str) -> bytes:
        """What an ensemble is: its molecule and the columns that can be asked for."""
        return self.about(name, self.measured(name))

    @staticmethod
    def about(name: str, m: Measured) -> bytes:
        """The answer to ``ensemble`` for frames that are measured already."""
        molecule = m.ensemble.molecule
        residues = [f"{a}{b}" for a, b in zip(molecule.residue_names, molecule.residue_ids, strict=True)]
        return pack({
            "name": name, "frames": len(m.ensemble), "columns": [asdict(c) for c in m.known.values()],
            "elements": list(molecule.elements), "bonds": np.array(molecule.bonds, dtype=np.int32).reshape(-1, 2),
            "atoms": list(molecule.atom_names), "residues": residues, "molecule": molecule.name, "flat": m.flat,
        })  # fmt: skip

    def column(self, name: str, *, column: str) -> bytes:
        """One column of an ensemble [frames], float32."""
        return pack({"values": self.measured(name).column(column)})

    def frames(self, name: str, *, rows: list[int]) -> bytes:
        """Structures of some frames [n, atoms, 3] in nm, superposed on the first of them."""
        chosen = _some(rows, MOST_FRAMES)
        return pack({"x": self.measured(name).frames(chosen), "rows": chosen})

    def rows(self, name: str, *, rows: list[int] | None = None, seed: int = 0) -> bytes:
        """Every degree of freedom [quantities, n] of some frames; without ``rows``, of frames chosen at random."""
        m = self.measured(name)
        if rows is None:
            size = min(MOST_ROWS, len(m.ensemble))
            chosen = np.sort(np.random.default_rng(seed).choice(len(m.ensemble), size, replace=False))
        else:
            chosen = _some(rows, MOST_ROWS)
        return pack({"values": m.rows(chosen), "rows": chosen, "names": [f.name for f in m.freedoms]})

    def request(self, name: str, *, kind: str, **arguments: Any) -> bytes:
        """Ask a running training for something through its inbox."""
        self.collection.run(name).request(kind, **arguments)
        return pack({"asked": kind})

    def statistics(self, run: str = "", *, ensemble: str = "") -> bytes:
        """Findings, and what pictures there are, of a run's draws or of one ensemble."""
        return pack(self._statistics(run, ensemble).listed())

    def statistic(self, run: str = "", *, ensemble: str = "", key: str) -> bytes:
        """One of those pictures."""
        known = self._statistics(run, ensemble).panels
        if key not in known:
            raise KeyError(f"key: got {key!r}, expected one of {', '.join(known)}")
        return join(*known[key].picture.encode())

    def file(self, name: str, *, rows: list[int], kind: str) -> bytes:
        """Some frames as a file of another program (pdb, xtc, dcd)."""
        m = self.measured(name)
        if kind not in KINDS:
            raise ValueError(f"kind: got {kind!r}, expected one of {', '.join(KINDS)}")
        chosen = Ensemble(m.ensemble.molecule, m.frames(_some(rows, MOST_FRAMES)))
        with tempfile.TemporaryDirectory() as folder:
            path = write(chosen, Path(folder) / f"frames.{kind}")
            return pack({"bytes": np.frombuffer(path.read_bytes(), dtype=np.uint8)})

    def _statistics(self, run: str, ensemble: str) -> Statistics:
        name = f"{run}/generated" if f"{run}/generated" in self.collection.ensembles() else ensemble
        state = (run, name, len(self.collection.ensemble(name)))
        with self._thinking:
            if state not in self._known:
                self._known = {state: statistics_of(self.collection, run=run, ensemble=ensemble)}
            return self._known[state]

    def measured(self, name: str) -> Measured:
        """An ensemble's columns and structures, as far as it has grown by now."""
        with self._lock:
            now = self.collection.ensemble(name)
            if name in self._measured and self._measured[name].ensemble.molecule == now.molecule:
                self._measured[name].follow(now)
            else:
                self._measured[name] = Measured(now)
            self._measured.move_to_end(name)
            while len(self._measured) > KEPT:
                self._measured.popitem(last=False)
            return self._measured[name]


def _some(rows: list[int], most: int) -> np.ndarray:
    chosen = np.asarray(rows, dtype=np.int64)
    return chosen if len(chosen) <= most else chosen[np.linspace(0, len(chosen) - 1, most).astype(np.int64)]
