"""The desk answers what a page asks. No web in here: server, notebook and file on disk carry the same answers."""

from __future__ import annotations

import re
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from molifold.data import write
from molifold.ensemble import Ensemble
from molifold.runs import Run
from molifold.workbench.collection import Collection
from molifold.workbench.headlines import headline
from molifold.workbench.inside import health, told
from molifold.workbench.measured import Measured, offered
from molifold.workbench.overview import tables
from molifold.workbench.packing import join, pack
from molifold.workbench.pages import guide
from molifold.workbench.pointed import Told, atom_values, frame_values, readable
from molifold.workbench.recorded import picture_of_record
from molifold.workbench.settled import settled
from molifold.workbench.statistics import Statistics, drawn_by, statistics_of
from molifold.workbench.words import plain

#: Ensembles whose columns are kept at the same time.
KEPT = 4
#: Statistics that are kept: about as many as a training is looked at.
LOOKS = 32
#: A page may ask for this many structures or measured frames at once.
MOST_FRAMES, MOST_ROWS = 1000, 5000
#: Files that a page can save.
KINDS = ("pdb", "xtc", "dcd", "sdf")
#: Records that are shown before all others, in this order (beginnings of their names).
FIRST = ("diagnosis", "expressivity", "what is missing", "latent dependence", "where it hurts", "attention")


#: Draws one conformation at a point z [latents] of the latent map of a run in a directory.
Decode = Callable[[Path, np.ndarray], Ensemble]


class Desk:
    """Answers to questions by name, each a block of ``packing``.

    Args:
        collection: what can be asked for.
        decode: draws a structure at a point of the latent map of a run, given its directory and z [latents]; None
            where no network can be run (this half of the package knows no torch).
    """

    def __init__(self, collection: Collection, *, decode: Decode | None = None) -> None:
        self.collection = collection
        self._decode = decode
        self._measured: OrderedDict[str, Measured] = OrderedDict()
        # Measuring takes a while and pages ask for several columns at once; the first one's work serves all.
        self._lock, self._thinking = threading.Lock(), threading.Lock()
        self._known: OrderedDict[tuple[str, str, int | None, int], Statistics] = OrderedDict()
        self.questions: dict[str, Callable[..., bytes]] = {
            "items": self.items, "run": self.run, "tail": self.tail, "record": self.record,
            "ensemble": self.ensemble, "column": self.column, "frames": self.frames, "rows": self.rows,
            "request": self.request, "statistics": self.statistics, "statistic": self.statistic, "file": self.file,
            "inside": self.inside, "health": self.health, "decode": self.decode, "guide": self.guide,
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
        """Every run with its headline numbers, every ensemble with its size, and both as tables."""
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
        return pack({"runs": runs, "ensembles": ensembles, "tables": tables(runs, ensembles), "time": time.time()})

    def guide(self) -> bytes:
        """How to read every panel without a picture, and which curves there are."""
        return pack(guide())

    def run(self, name: str) -> bytes:
        """What a run is: its settings, records, ensembles and checkpoints."""
        run = self.collection.run(name)
        info = {k: v for k, v in run.info.items() if k != "molecule"}
        records = [
            {"name": record, "steps": list(steps), **run.about(record)}
            for record, steps in sorted(run.records.items(), key=lambda item: _place(item[0]))
            if steps and " by layer - " not in record  # drawn where a layer is opened
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
            "state": run.state, "scalars": next_scalars, "events": next_events, "columns": columns,
            "news": [plain(event) for event in news],
            "records": {record: list(steps) for record, steps in run.records.items()}, "time": time.time(),
        })  # fmt: skip

    def record(self, name: str, *, record: str, step: int | None = None) -> bytes:
        """One record of a run as a picture."""
        run = self.collection.run(name)
        return join(*settled(picture_of_record(run, record, step=step)).encode())

    def inside(self, name: str) -> bytes:
        """The modules of a run's network with shapes, health and verdicts; which tables have a history."""
        return pack(told(self.collection.run(name)))

    def health(self, name: str, *, record: str = "") -> bytes:
        """Layers over steps in every table of a run, or in one, as a picture."""
        return join(*settled(health(self.collection.run(name), record=record)).encode())

    def decode(self, name: str, *, at: Mapping[str, float]) -> bytes:
        """A structure that the network of the ensemble's run draws at a place of its latent map.

        ``at`` holds two latent columns, z1 and z2, say; further latents are those of the frame nearest to that place.
        """
        if self._decode is None:
            raise ValueError("decode: this view cannot run a network; open the run with: molifold watch")
        m, path = self.measured(name), self._run_of(name)
        latents = sorted((c for c in m.known if re.fullmatch(r"z\d+", c)), key=lambda c: int(c[1:]))
        if path is None or not set(at) <= set(latents):
            raise ValueError(
                f"at: got {', '.join(at)} of {name!r}, expected latent columns (z1, z2, ...) of a run's map"
            )
        places = np.stack([m.column(c) for c in latents], axis=1).astype(float)
        near = np.nansum([(places[:, latents.index(c)] - v) ** 2 for c, v in at.items()], axis=0).argmin()
        z = np.array([at.get(c, places[near, i]) for i, c in enumerate(latents)])
        drawn = self._decode(path, z)
        both = Ensemble(drawn.molecule, np.concatenate([m.frames(near[None]), np.asarray(drawn.x)[:1]]))
        return pack({"x": Measured(both).frames(np.arange(2))[1:], "z": z, "log_q": np.asarray(drawn.log_q)[:1]})

    def ensemble(self, name: str) -> bytes:
        """What an ensemble is: its molecule, the columns that can be asked for, and what records say of its atoms."""
        m, path = self.measured(name), self._run_of(name)
        atoms = {} if path is None else atom_values(Run.open(path))
        molecule = m.ensemble.molecule
        residues = [f"{a}{b}" for a, b in zip(molecule.residue_names, molecule.residue_ids, strict=True)]
        return pack({
            "name": name, "frames": len(m.ensemble), **offered(list(m.known.values())),
            "elements": list(molecule.elements), "bonds": np.array(molecule.bonds, dtype=np.int32).reshape(-1, 2),
            "atoms": list(molecule.atom_names), "residues": residues, "molecule": molecule.name, "flat": m.flat,
            "atom_values": [{"name": n, "label": readable(n), "values": v} for n, v in atoms.items()],
        })  # fmt: skip

    def column(self, name: str, *, column: str) -> bytes:
        """One column of an ensemble [frames], float32."""
        return pack({"values": self.measured(name).column(column)})

    def frames(self, name: str, *, rows: list[int], onto: list[float] | None = None) -> bytes:
        """Structures of some frames [n, atoms, 3] in nm, superposed on the first of them, and that on ``onto``.

        Frames that are broken (not all coordinates finite) are left out.
        """
        target = None if onto is None else np.asarray(onto, dtype=np.float32).reshape(-1, 3)
        chosen, x = self._whole(name, rows, onto=target)
        return pack({"x": x, "rows": chosen})

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

    def statistics(self, run: str = "", *, ensemble: str = "", step: int | None = None) -> bytes:
        """Findings, and what pictures there are, of a run's draws (at a step of its training) or of one ensemble."""
        return pack(self._statistics(run, ensemble, step).listed())

    def statistic(self, run: str = "", *, ensemble: str = "", step: int | None = None, key: str) -> bytes:
        """One of those pictures."""
        known = self._statistics(run, ensemble, step).panels
        if key not in known:
            raise KeyError(f"key: got {key!r}, expected one of {', '.join(known)}")
        return join(*settled(known[key].picture).encode())

    def file(self, name: str, *, kind: str, rows: list[int] | None = None, x: list[float] | None = None) -> bytes:
        """Some frames, or one structure that was drawn (``x``, nm), as a file of another program; see ``KINDS``."""
        m = self.measured(name)
        if kind not in KINDS:
            raise ValueError(f"kind: got {kind!r}, expected one of {', '.join(KINDS)}")
        molecule = m.ensemble.molecule
        drawn = None if x is None else np.asarray(x, dtype=np.float32).reshape(1, molecule.n_atoms, 3)
        chosen = Ensemble(molecule, self._whole(name, rows or [])[1] if drawn is None else drawn)
        with tempfile.TemporaryDirectory() as folder:
            path = write(chosen, Path(folder) / f"frames.{kind}")
            return pack({"bytes": np.frombuffer(path.read_bytes(), dtype=np.uint8)})

    def _whole(self, name: str, rows: list[int], *, onto: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Those of some frames that are whole, and their structures."""
        chosen = _some(rows, MOST_FRAMES)
        x = self.measured(name).frames(chosen, onto=onto)
        whole = np.isfinite(x).all((1, 2))
        if len(x) and not whole.any():
            told = f"frame {chosen[0]}" if len(chosen) == 1 else f"{len(chosen)} frames"
            raise ValueError(
                f"rows: got {told} with coordinates that are not finite, expected whole frames; pick others"
            )
        return chosen[whole], x[whole]

    def _statistics(self, run: str, ensemble: str, step: int | None) -> Statistics:
        name = drawn_by(self.collection, run) or ensemble
        state = (run, name, step, len(self.collection.ensemble(name)))
        with self._thinking:
            if state not in self._known:
                self._known[state] = statistics_of(self.collection, run=run, ensemble=ensemble, step=step)
            self._known.move_to_end(state)
            while len(self._known) > LOOKS:
                self._known.popitem(last=False)
            return self._known[state]

    def measured(self, name: str) -> Measured:
        """An ensemble's columns and structures, as far as it has grown by now."""
        with self._lock:
            now, told = self.collection.ensemble(name), self._told(name)
            if name in self._measured and self._measured[name].fits(now, told):
                self._measured[name].follow(now)
            else:
                self._measured[name] = Measured(now, told=told)
            self._measured.move_to_end(name)
            while len(self._measured) > KEPT:
                self._measured.popitem(last=False)
            return self._measured[name]

    def _told(self, name: str) -> dict[str, Told]:
        """What records say of the frames of an ensemble: only those of the reference have numbers that they know."""
        path = self._run_of(name) if name.rpartition("/")[2] == "reference" else None
        return {} if path is None else frame_values(Run.open(path), frames=len(self.collection.ensemble(name)))

    def _run_of(self, name: str) -> Path | None:
        """Directory of the run that an ensemble belongs to."""
        return self.collection.runs().get(name.rpartition("/")[0])


def _place(record: str) -> tuple[int, str]:
    """Verdicts come before what they are made of."""
    first = next((i for i, name in enumerate(FIRST) if record.startswith(name)), len(FIRST))
    return first, record


def _some(rows: list[int], most: int) -> np.ndarray:
    chosen = np.asarray(rows, dtype=np.int64)
    return chosen if len(chosen) <= most else chosen[np.linspace(0, len(chosen) - 1, most).astype(np.int64)]
