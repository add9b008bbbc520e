"""The two data sets of ``latent_map.py`` as ensemble stores, with the recipe that each is trained by."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import openmm
from openmm import app, unit

from molifold import Ensemble
from molifold.data import load
from molifold.units import kT

#: Trajectories of aldp_msmb to train on; the others are for validation.
TRAINING = 5

RECIPE = """
[system]
structure = "{structure}"
openmm_xml = "system.xml"
temperature = {temperature}

[data]
source = "training.ens"

[flow]
use = "molifold.flows:latent_map"
{flow}

[training]
losses = [{{ use = "molifold.losses:latent_objective", slowness = 30.0 }}]
lag = {lag}
steps = {steps}
max_seconds = {seconds}
batch_size = {batch_size}
learning_rate = 2e-3
ema = 0.99
seed = 1
threads = 1
"""


def flexible_system(pdb: app.PDBFile, *, files: tuple[str, ...], cutoff: bool) -> openmm.System:
    """The force field without constraints."""
    method = app.CutoffNonPeriodic if cutoff else app.NoCutoff
    options = {"nonbondedMethod": method, "constraints": None, "removeCMMotion": False}
    if cutoff:
        options["nonbondedCutoff"] = 1.0 * unit.nanometer
    return app.ForceField(*files).createSystem(pdb.topology, **options)


def relaxed(ensemble: Ensemble, system: openmm.System, *, temperature: float, seed: int) -> Ensemble:
    """Frames with bonds of hydrogen as long as they would be without the constraints of the simulation.

    A stretching vibration that hardly couples to anything has density r^2 exp(-k (r - r0)^2 / 2 kT). Without this the
    frames lie on a surface of measure zero, on which a density of all coordinates has no meaning.
    """
    force = next(f for f in system.getForces() if isinstance(f, openmm.HarmonicBondForce))
    x, random = np.array(ensemble.x, dtype=np.float64), np.random.default_rng(seed)
    for i in range(force.getNumBonds()):
        a, b, r0, k = force.getBondParameters(i)
        r0, k = r0.value_in_unit(unit.nanometer), k.value_in_unit(unit.kilojoule_per_mole / unit.nanometer**2)
        if "H" not in (ensemble.molecule.elements[a], ensemble.molecule.elements[b]):
            continue
        heavy, light = (a, b) if ensemble.molecule.elements[b] == "H" else (b, a)
        bond = x[:, light] - x[:, heavy]
        variance = kT(temperature) / k
        length = r0 + 2 * variance / r0 + np.sqrt(variance) * random.normal(size=len(x))
        x[:, light] = x[:, heavy] + bond / np.linalg.norm(bond, axis=1, keepdims=True) * length[:, None]
    return replace(ensemble, x=x.astype(np.float32))


def alanine_dipeptide(data: Path, work: Path, *, steps: int, seconds: int) -> Path:
    """aldp_msmb: 7 x 10 ns at 300 K, AMBER99SB-ILDN in OBC water, a frame a ps; lag 20 ps."""
    pdb = data / "aldp_msmb" / "ala2.pdb"
    system = flexible_system(app.PDBFile(str(pdb)), files=("amber99sbildn.xml", "amber99_obc.xml"), cutoff=True)
    frames = load([data / "aldp_msmb" / f"trajectory-{i}.dcd" for i in range(7)], top=pdb)
    frames = relaxed(frames, system, temperature=300.0, seed=0)
    # Twice as many steps as graph filters do in the same time, and as good at equal time: conditioners.py.
    flow = 'network = "mlp"'
    options = {"lag": 20, "temperature": 300.0, "steps": steps, "seconds": seconds, "flow": flow, "batch_size": 512}
    return _prepared(work, pdb, system, frames, TRAINING, **options)


def chignolin(data: Path, work: Path, *, steps: int, seconds: int) -> Path:
    """chignolin_metad: 25 metadynamics walkers, 166 atoms, biased and with no weights: a set of shapes."""
    pdb = data / "chignolin_metad" / "top.pdb"
    system = flexible_system(app.PDBFile(str(pdb)), files=("amber99sbildn.xml", "amber99_obc.xml"), cutoff=False)
    frames = load([data / "chignolin_metad" / f"walker_{i}.xtc" for i in range(25)], top=pdb)
    frames = relaxed(frames, system, temperature=340.0, seed=0)
    flow = "couplings = 2\nrotation_couplings = 2\nchannels = 16\nencoder_channels = 16"
    options = {"lag": 5, "temperature": 340.0, "steps": steps, "seconds": seconds, "flow": flow, "batch_size": 256}
    return _prepared(work, pdb, system, frames, 20, **options)


def _prepared(work: Path, pdb: Path, system: openmm.System, frames: Ensemble, training: int, **options: object) -> Path:
    """Stores of all and of the training's frames, and the recipe (``options`` are what it leaves open)."""
    work.mkdir(parents=True, exist_ok=True)
    (work / "system.xml").write_text(openmm.XmlSerializer.serialize(system))
    if not (work / "all.ens").exists():
        frames.save(work / "all.ens")
        frames[np.flatnonzero(frames.columns["trajectory"] < training)].save(work / "training.ens")
    recipe = work / "map.toml"
    recipe.write_text(RECIPE.format(structure=pdb, **options))
    return recipe
