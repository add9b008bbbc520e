"""Recipes: a training as a TOML file, checked as a whole before anything starts."""

from __future__ import annotations

import inspect
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial, update_wrapper
from pathlib import Path
from typing import Any, Literal, Self

import pydantic
from torch import nn

from molifold.ensemble import Ensemble
from molifold.interfaces import Loss, Probe
from molifold.molecule import Molecule
from molifold.training.arguments import RecipeError, checked, imported, validated
from molifold.training.fit import fit
from molifold.training.settings import Settings
from molifold.training.step import Weight

#: What the pipeline itself passes to ``fit``, to a simulation and to ``draw``.
FIT_PROVIDED = (
    "flow", "ensemble", "energy", "losses", "schedule", "to", "recipe", "reference", "resume", "progress",
    "probes",
)  # fmt: skip
SIMULATION_PROVIDED = ("energy", "x0", "molecule", "temperature", "to", "resume", "progress")
DRAW_PROVIDED = ("flow", "molecule", "energy", "to", "progress")
LOSS_PROVIDED = ("flow", "batch", "energy", "generator")


#: Keys of ``[system]`` that name a molecule.
SOURCES = ("example", "structure", "smiles", "sequence")


class SystemSection(pydantic.BaseModel):
    """``[system]``: the molecule and its energy."""

    model_config = pydantic.ConfigDict(extra="forbid", strict=True)

    example: str | None = None
    structure: Path | None = None
    smiles: str | None = None
    sequence: str | None = None
    caps: bool = True
    alternate: str | None = None
    force_field: list[str] | None = None
    prmtop: Path | None = None
    openmm_xml: Path | None = None
    temperature: float = pydantic.Field(default=300.0, gt=0)
    engine: Literal["batched", "openmm"] = "batched"
    threads: int = pydantic.Field(default=1, gt=0)

    @pydantic.model_validator(mode="after")
    def _one_of_each(self) -> Self:
        sources = [n for n in SOURCES if getattr(self, n) is not None]
        physics = [n for n in ("force_field", "prmtop", "openmm_xml") if getattr(self, n) is not None]
        if len(sources) != 1:
            got = " and ".join(sources) or "none"
            raise ValueError(f"got {got}, expected exactly one of {', '.join(SOURCES)}")
        if self.example is None and len(physics) != 1:
            got = " and ".join(physics) or "none"
            raise ValueError(f"got {got}, expected exactly one of force_field, prmtop, openmm_xml")
        if self.example is not None and physics:
            raise ValueError(f"got example and {physics[0]}, but an example brings its own energy")
        return self


class DataSection(pydantic.BaseModel):
    """``[data]``: where frames come from: files (``source``) or a simulation (``use``, and its arguments)."""

    model_config = pydantic.ConfigDict(extra="allow", strict=True)

    source: Path | list[Path] | None = None
    stride: int = pydantic.Field(default=1, gt=0)
    use: str | None = None

    @pydantic.model_validator(mode="after")
    def _one(self) -> Self:
        if (self.source is None) == (self.use is None):
            raise ValueError("expected either source (files) or use (a simulation), not both and not neither")
        return self


@dataclass(frozen=True)
class Recipe:
    """A checked recipe; ``read_recipe`` makes one.

    Every section holds the arguments of one function, checked against its signature: ``[flow]`` of the function that
    its ``use`` names, called with (molecule, reference ensemble); ``[data]`` of ``data.load`` or of a simulation;
    ``[training]`` of ``fit``; ``[[training.losses]]`` of a loss, with ``weight`` and ``from_step``; ``[sampling]`` of
    ``sampling.draw``. ``[report]`` is passed on.

    Args:
        raw: the tables of the file.
        base: directory to which relative paths refer.
        source: its name, for errors.
        trust: packages from which its import strings may take code; None: all, as in a recipe that you wrote.

    Raises:
        RecipeError: listing all problems, each with its key, what came and what is allowed.
        PermissionError: if it names code outside ``trust``; nothing has been imported then.

    >>> raw = {
    ...     "system": {"example": "alanine-dipeptide"},
    ...     "data": {"source": "frames.ens"},
    ...     "flow": {"use": "molifold.flows.recipes:graph_spline_coupling", "network": "graf"},
    ...     "training": {"stepz": 100},
    ... }
    >>> Recipe(raw)
    Traceback (most recent call last):
    molifold.training.arguments.RecipeError: recipe: flow.network: got 'graf', expected 'graph', ... or 'mlp'
    recipe: training.stepz: unknown key; did you mean 'steps'? ...
    """

    raw: Mapping[str, Any]
    base: Path = Path()
    source: str = "recipe"
    trust: Sequence[str] | None = None

    def __post_init__(self) -> None:
        problems: list[str] = []
        for check in (self._check_sections, self._check_system, self._check_data, self._check_flow,
                      self._check_training, self._check_losses, self._check_sampling):  # fmt: skip
            try:
                check()
            except RecipeError as error:
                problems += error.problems
        if problems:
            raise RecipeError(problems, source=self.source)

    # ------------------------------------------------------------------ parts

    @property
    def system(self) -> SystemSection:
        """The system's section."""
        return SystemSection(**validated(SystemSection, self._section("system"), where="system"))

    @property
    def seed(self) -> int:
        """Seed of everything random."""
        return int(self._section("training").get("seed", 0))

    def flow(self, molecule: Molecule, reference: Ensemble) -> Any:
        """Build the flow, untrained, from frames that set its scales."""
        return build_flow(self._section("flow"), molecule, reference, trust=self.trust)

    def losses(self) -> list[tuple[Weight, Loss]]:
        """Weights and losses; maximum likelihood if the recipe names none."""
        tables = self._section("training").get("losses", [{"use": "molifold.losses:nll"}])
        return [_loss(table, where=f"training.losses[{i}]", trust=self.trust) for i, table in enumerate(tables)]

    def probes(self) -> list[Probe]:
        """What is watched besides the default: ``use`` names a probe, the other keys are its arguments."""
        tables = self._section("training").get("probes", [])
        if not (isinstance(tables, list) and all(isinstance(table, dict) for table in tables)):
            raise RecipeError([f"training.probes: got {tables!r}, expected tables, e.g. [{{use = 'my_lab:my_probe'}}]"])
        return [_probe(table, where=f"training.probes[{i}]", trust=self.trust) for i, table in enumerate(tables)]

    def training(self) -> dict[str, Any]:
        """Arguments of ``fit``."""
        given = {k: v for k, v in self._section("training").items() if k not in ("losses", "probes")}
        return checked(fit, given, where="training", provided=FIT_PROVIDED)

    def sampling(self) -> dict[str, Any]:
        """Arguments of ``sampling.draw``."""
        from molifold.sampling import draw

        given = {"n": 10_000, "seed": self.seed, **self._section("sampling")}
        return checked(draw, given, where="sampling", provided=DRAW_PROVIDED)

    def report(self) -> dict[str, Any]:
        """Arguments of the report."""
        return dict(self._section("report"))

    def to_dict(self) -> dict[str, Any]:
        """The tables of the file, JSON-able, as they are kept in a run."""
        return {name: dict(table) for name, table in self.raw.items()}

    def __repr__(self) -> str:
        system = next(str(self.raw["system"][k]) for k in SOURCES if k in self.raw["system"])
        data = self.raw["data"].get("use") or self.raw["data"]["source"]
        return f"Recipe({self.source!r}: {system}, data from {data}, flow {self.raw['flow']['use']})"

    # ------------------------------------------------------------------ checks

    def _section(self, name: str) -> dict[str, Any]:
        table = self.raw.get(name, {})
        if not isinstance(table, Mapping):
            raise RecipeError([f"{name}: got {table!r}, expected a table [{name}]"])
        return dict(table)

    def _check_sections(self) -> None:
        names = ("system", "data", "flow", "training", "sampling", "report")
        table: Any = {n: (dict, ... if n in ("system", "data", "flow", "training") else {}) for n in names}
        sections = pydantic.create_model("recipe", __config__=pydantic.ConfigDict(extra="forbid"), **table)
        validated(sections, self.raw)

    def _check_system(self) -> None:
        from molifold.data import examples

        system = self.system
        if system.example is not None and system.example not in examples():
            raise RecipeError([f"system.example: got {system.example!r}, expected one of {', '.join(examples())}"])

    def _check_data(self) -> None:
        data = self._section("data")
        validated(DataSection, data, where="data")
        if "use" in data:
            options = {k: v for k, v in data.items() if k not in ("use", "stride", "source")}
            function = imported(data["use"], where="data.use", trust=self.trust)
            checked(function, {"seed": self.seed, **options}, where="data", provided=SIMULATION_PROVIDED)

    def _check_flow(self) -> None:
        flow = self._section("flow")
        if "use" not in flow:
            raise RecipeError(["flow.use: missing, expected e.g. 'molifold.flows.recipes:graph_spline_coupling'"])
        options = {k: v for k, v in flow.items() if k not in ("use", "widths")}
        function = imported(flow["use"], where="flow.use", trust=self.trust)
        first = list(inspect.signature(function).parameters)[:2]
        checked(function, options, where="flow", provided=first, trust=self.trust)

    def _check_training(self) -> None:
        given = self.training()
        defaults = {p.name: p.default for p in inspect.signature(fit).parameters.values()} | given
        if given.get("epochs") is not None:
            defaults["steps"] = defaults["steps"] or given["epochs"]
        try:
            Settings(**{f.name: defaults[f.name] for f in fields(Settings)})
        except ValueError as error:
            raise RecipeError([f"training.{error}"]) from None

    def _check_losses(self) -> None:
        tables = self._section("training").get("losses", [])
        if not isinstance(tables, list) or not all(isinstance(t, Mapping) for t in tables):
            raise RecipeError(["training.losses: expected tables [[training.losses]]"])
        self.losses()
        self.probes()

    def _check_sampling(self) -> None:
        self.sampling()


def read_recipe(path: str | Path, *, trust: Sequence[str] | None = None) -> Recipe:
    """Read and check a TOML recipe; relative paths in it refer to its directory.

    Args:
        path: the file.
        trust: packages from which its import strings may take code; None: all, as in a recipe that you wrote.

    Raises:
        FileNotFoundError: if there is no such file.
        RecipeError: listing all problems.
        PermissionError: if it names code outside ``trust``.
    """
    path = Path(path)
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise RecipeError([f"not TOML: {error}"], source=path.name) from None
    return Recipe(raw, base=path.parent, source=path.name, trust=trust)


def build_flow(
    table: Mapping[str, Any], molecule: Molecule, reference: Ensemble, *, trust: Sequence[str] | None = None
) -> Any:
    """Call the function that ``table["use"]`` names with (molecule, reference) and the other keys.

    ``table["widths"]``, which growth writes, holds shapes of parameters by name that differ from what was built.
    """
    function = imported(table["use"], where="flow.use", trust=trust)
    first = list(inspect.signature(function).parameters)[:2]
    given = {k: v for k, v in table.items() if k not in ("use", "widths")}
    options = checked(function, given, where="flow", provided=first, trust=trust)
    flow = function(molecule, reference, **options)
    for name, shape in table.get("widths", {}).items():
        module, _, attribute = name.rpartition(".")
        old = flow.get_parameter(name)
        setattr(flow.get_submodule(module), attribute, nn.Parameter(old.new_zeros(shape)))
    return flow


class _LossTable(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow", strict=True)

    use: str
    weight: float = 1.0
    from_step: int = pydantic.Field(default=0, ge=0)


def _probe(table: Mapping[str, Any], *, where: str, trust: Sequence[str] | None) -> Probe:
    if "use" not in table:
        raise RecipeError([f"{where}.use: missing, expected e.g. 'molifold.probes:watch_curvature'"])
    function = imported(table["use"], where=f"{where}.use", trust=trust)
    options = checked(function, {k: v for k, v in table.items() if k != "use"}, where=where, provided=("moment",))
    return update_wrapper(partial(function, **options), function) if options else function


def _loss(table: Mapping[str, Any], *, where: str, trust: Sequence[str] | None) -> tuple[Weight, Loss]:
    made = _LossTable(**validated(_LossTable, table, where=where))
    function = imported(made.use, where=f"{where}.use", trust=trust)
    given = {k: v for k, v in table.items() if k not in _LossTable.model_fields}
    options = checked(function, given, where=where, provided=LOSS_PROVIDED)
    loss: Loss = function
    if options:
        loss = partial(function, **options)
    if made.from_step:
        return (lambda step: made.weight if step >= made.from_step else 0.0), loss
    return made.weight, loss
