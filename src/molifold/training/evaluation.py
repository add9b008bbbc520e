"""Evaluation: draws taken while a flow learns, what they are worth, and their history in the run."""

from __future__ import annotations

import time
import traceback

import numpy as np
from torch import nn

from molifold.ensemble import Ensemble
from molifold.interfaces import Energy
from molifold.molecule import Molecule
from molifold.probes import preserved
from molifold.runs import Writer
from molifold.sampling import Quality, draw, quality, with_torsions
from molifold.store import Writer as Store

#: The ensemble of a run in which the draws of every look are kept, with their ``step``.
HISTORY = "history"
#: Draws of a look that nobody gave a number.
FRAMES = 1000
#: What stands beside the numbers of a look.
TEXT = """What draws with the present weights are worth: effective sample size and tail of their importance weights, and
Jensen-Shannon divergences of the raw draws from the reference beside the noise floor of so many frames.

Healthy: the effective sample size rises, k-hat falls below 0.7, ratios fall towards 1.

Otherwise: one torsion that stays far above its floor is where the flow is too weak (see the page Network); an effective
sample size that stays small while all ratios are near 1 means that bonds and angles are too wide or too strained."""


class Evaluation:
    """Draws from a flow on a schedule, judges the draws, and keeps numbers and draws in a run.

    Training with and without it ends in bit-identical parameters: the flow is looked at as probes look (``preserved``),
    and draws come from a generator of their own, by seed, step and number of draws so far. A look that fails becomes an
    event, never an exception.

    Args:
        flow: what draws (``interfaces.Density``), the averaged weights if there are such.
        run: where to write: ensemble ``history`` (draws with their ``step``), record ``evaluation`` (numbers with
            errors and floors). The scalars are returned, so that they stand in the row of the step.
        molecule: what the atoms are.
        energy: the target; None gives no weights.
        reference: what the draws should be, see ``sampling.quality``.
        frames: draws of every look; 0 looks only when asked to (``look``).
        every: steps from one look to the next; the first is at the first call, unless the run has a history already.
        budget: largest share of the time since the first look that later looks may take; one that would exceed it is
            put off. The first look (which compiles) and forced ones are always taken.
        seed: of all draws.
        batch_size: draws per call.
        device: where the flow is.
        name: "" or, where several flows are trained together, what tells them apart.

    Raises:
        ValueError: if ``frames`` is negative or ``every`` or ``budget`` is not positive.

    >>> import tempfile, torch
    >>> from molifold.runs import Run
    >>> class Normal(nn.Module):
    ...     def log_prob(self, x):
    ...         return -0.5 * (x.square().sum((1, 2)) + 3 * np.log(2 * np.pi))
    ...     def sample(self, n, *, generator=None):
    ...         x = torch.randn(n, 1, 3, generator=generator)
    ...         return x, self.log_prob(x)
    >>> class Spring:
    ...     temperature = 300.0
    ...     def __call__(self, x):
    ...         return 0.5 * x.square().sum((1, 2))
    >>> with Run.create(tempfile.mkdtemp() + "/x") as run:
    ...     evaluation = Evaluation(Normal(), run, molecule=Molecule(elements=("X",)), energy=Spring(), budget=9)
    ...     rows = [evaluation(step) for step in (1, 2, 1000)]
    >>> [round(row["ess"], 3) if row else None for row in rows]
    [1.0, None, 1.0]
    >>> Run.open(run.path).ensemble("history")
    Ensemble('molecule': 2000 frames x 1 atoms; log_p; log_q; columns energy, step)
    """

    def __init__(
        self,
        flow: nn.Module,
        run: Writer,
        *,
        molecule: Molecule,
        energy: Energy | None = None,
        reference: Ensemble | None = None,
        frames: int = FRAMES,
        every: int = 1000,
        budget: float = 0.02,
        seed: int = 0,
        batch_size: int = 1024,
        device: str = "cpu",
        name: str = "",
    ) -> None:
        if frames < 0:
            raise ValueError(f"frames: got {frames!r}, expected a number of draws, or 0 for none")
        for what, value in (("every", every), ("budget", budget)):
            if not value > 0:
                raise ValueError(f"{what}: got {value!r}, expected a positive number")
        self.flow, self.run, self.molecule, self.energy, self.reference = flow, run, molecule, energy, reference
        self.frames, self.every, self.budget, self.seed = frames, every, budget, seed
        self.batch_size, self.device, self.name = batch_size, device, name
        self.seconds = 0.0
        self._cost: float | None = None
        self._began = self._told = False
        self._since = time.perf_counter()
        self._mark: int | None = None
        self._untold: dict[str, float] = {}

    def __call__(self, step: int, *, mark: int | None = None, force: bool = False) -> dict[str, float]:
        """Look, if a look is due and affordable: scalars ``ess``, ``pareto_k``, ``distance``, ``evaluation_seconds``.

        Args:
            step: the optimiser step that is done.
            mark: a number that rises when a look is due; default: whole multiples of ``every`` so far.
            force: look now, whatever it takes.

        Returns:
            dict: empty without a look; numbers of a look that somebody asked for in between are told here too.
        """
        mark = step // self.every if mark is None else mark
        if self._mark is None:
            self._mark = mark if self._history in self.run.run.ensembles else -1
        if self.frames and (force or (mark > self._mark and self._affordable(step))):
            self._mark = mark
            self.look(step)
        untold, self._untold = self._untold, {}
        return untold

    def look(self, step: int, *, frames: int | None = None) -> None:
        """Look now, with so many draws; the next call of the object tells the numbers, for a row of scalars."""
        start = time.perf_counter()
        try:
            with preserved(self.flow):
                found = self._look(step, frames or self.frames or FRAMES).scalars()
        except Exception as error:  # a flow may fail in any way while it learns; training goes on
            details = traceback.format_exc()
            self.run.event(step, "probe_failed", f"evaluation: {error!r}", probe="evaluation", traceback=details)
            found = {}
        cost = time.perf_counter() - start
        if self._began:
            self._cost = cost
            self.seconds += cost
        else:
            self._began, self._since = True, time.perf_counter()
        self._untold = {self._named(key): value for key, value in {**found, "evaluation_seconds": cost}.items()}

    def _look(self, step: int, frames: int) -> Quality:
        run = self.run.run
        before = len(run.ensemble(self._history)) if self._history in run.ensembles else 0
        drawn = draw(
            self.flow, frames, molecule=self.molecule, energy=self.energy,  # type: ignore[arg-type]
            seed=int(np.random.SeedSequence([self.seed, step, before]).generate_state(1)[0]),
            batch_size=self.batch_size, device=self.device,
        )  # fmt: skip
        with self._store() as store:
            steps = np.full(len(drawn), step, dtype=np.int64)
            store.append(drawn.x, log_p=drawn.log_p, log_q=drawn.log_q, **drawn.columns, step=steps)
        # Torsions of the reference are measured once, at the first look.
        self.reference = None if self.reference is None else with_torsions(self.reference)
        found = quality(drawn, self.reference, seed=self.seed)
        rows = list(found.rows())
        if rows:
            keys = ("name", "value", "error", "floor", "ratio")
            arrays = {key: np.array(column) for key, column in zip(keys, zip(*rows, strict=True), strict=True)}
            self.run.record(step, self._named("evaluation", " "), kind="table", arrays=arrays, text=TEXT)
        return found

    @property
    def _history(self) -> str:
        return self._named(HISTORY, "-")

    def _store(self) -> Store:
        columns = {"energy": np.float64, "step": np.int64} if self.energy is not None else {"step": np.int64}
        meta = {"source": "molifold.training.Evaluation", "seed": self.seed}
        meta |= {} if self.energy is None else {"temperature": float(self.energy.temperature)}
        path = self.run.ensemble_path(self._history)
        return Store(path, self.molecule, columns=columns, meta=meta, resume=True)

    def _affordable(self, step: int) -> bool:
        if self._cost is None:
            return True
        share = (self.seconds + self._cost) / (time.perf_counter() - self._since)
        if share > self.budget and not self._told:
            self._told = True
            message = f"evaluation: put off, a look takes {self._cost:.3g} s and looks may take {self.budget:.0%}"
            self.run.event(step, "probe_skipped", message, probe="evaluation", seconds=self._cost)
        return share <= self.budget

    def _named(self, key: str, joint: str = "/") -> str:
        return f"{key}{joint}{self.name}" if self.name else key

    def __repr__(self) -> str:
        return f"Evaluation({type(self.flow).__name__}: {self.frames} draws, at most {self.budget:.0%} of the time)"
