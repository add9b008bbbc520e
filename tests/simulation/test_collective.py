"""The map as a collective variable: forces of OpenMM against finite differences, the exported file against the map."""

import numpy as np
import openmm
import pytest
import torch
from openmm import app, unit

from molifold import Ensemble
from molifold.data import example
from molifold.flows import latent_map
from molifold.simulation import CollectiveVariables, export_torchscript, latent_force, plumed_input

SYSTEM = example("alanine-dipeptide")
N = SYSTEM.molecule.n_atoms
X = SYSTEM.x + 0.003 * np.random.default_rng(0).normal(size=(800, N, 3))


@pytest.fixture(scope="module")
def flow():
    torch.manual_seed(1)
    made = latent_map(
        SYSTEM.molecule, Ensemble(SYSTEM.molecule, X), latents=("real", "circle"), couplings=2, rotation_couplings=2,
        channels=8, encoder_channels=8,
    )  # fmt: skip
    with torch.no_grad():
        made.encoder.readout[-1].weight.mul_(20)  # an untrained map hardly varies
    return made.eval()


def context(force, *, particles=N):
    system = openmm.System()
    for _ in range(particles):
        system.addParticle(12.0)
    system.addForce(force)
    return openmm.Context(system, openmm.VerletIntegrator(0.001), openmm.Platform.getPlatformByName("Reference"))


def energy_and_forces(context, x):
    context.setPositions(x)
    state = context.getState(energy=True, forces=True)
    return (
        state.getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole),
        state.getForces(asNumpy=True).value_in_unit(unit.kilojoule_per_mole / unit.nanometer),
    )


def gradient_error(context, x, atoms):
    """Largest deviation of forces from central differences, relative to the largest force."""
    _, forces = energy_and_forces(context, x)
    step, worst = 1e-5, 0.0
    for atom in atoms:
        for axis in range(3):
            ends = []
            for sign in (1, -1):
                moved = x.copy()
                moved[atom, axis] += sign * step
                ends.append(energy_and_forces(context, moved)[0])
            worst = max(worst, abs(-(ends[0] - ends[1]) / (2 * step) - forces[atom, axis]))
    assert np.abs(forces).max() > 0.01
    return worst / np.abs(forces).max()


@pytest.mark.parametrize("variable", ["z1", "cos_z2", "sin_z2"])
def test_forces_are_minus_the_gradient(flow, variable):
    there = context(latent_force(flow, variable))
    place = flow.encode(Ensemble(SYSTEM.molecule, X[:1])).z[0]
    expected = {"z1": place[0], "cos_z2": np.cos(place[1]), "sin_z2": np.sin(place[1])}[variable]
    assert energy_and_forces(there, X[0])[0] == pytest.approx(expected, abs=1e-5)
    assert gradient_error(there, X[0], atoms=(4, 6, 8, 14)) < 1e-4


def test_a_bias_on_the_map_acts_on_the_molecule_alone(flow):
    """Through CustomCVForce, on a molecule that is not the first in its box."""
    bias = openmm.CustomCVForce("50 * (z - 0.5)^2")
    bias.addCollectiveVariable("z", latent_force(flow, "z1", particles=list(range(2, N + 2))))
    there = context(bias, particles=N + 2)
    x = np.concatenate([np.array([[3.0, 0, 0], [0, 3.0, 0]]), X[1]])
    value, forces = energy_and_forces(there, x)
    z = flow.encode(Ensemble(SYSTEM.molecule, X[1:2])).z[0, 0]
    assert value == pytest.approx(50 * (z - 0.5) ** 2, rel=1e-4)
    assert np.all(forces[:2] == 0)
    assert gradient_error(there, x, atoms=(6, 8)) < 1e-4


def test_metadynamics_of_openmm_runs_along_the_map(flow, tmp_path):
    system = SYSTEM.openmm_system()
    variable = app.BiasVariable(latent_force(flow, "z1"), -3.0, 3.0, 0.2, periodic=False)
    meta = app.Metadynamics(system, [variable], 300.0, 5.0, 1.0, 5)
    integrator = openmm.LangevinMiddleIntegrator(300.0, 1.0, 0.001)
    run = app.Simulation(
        SYSTEM.molecule.to_openmm(), system, integrator, openmm.Platform.getPlatformByName("Reference")
    )
    run.context.setPositions(SYSTEM.x[0])
    meta.step(run, 20)
    assert np.isfinite(meta.getFreeEnergy().value_in_unit(unit.kilojoule_per_mole)).all()
    assert meta.getCollectiveVariables(run)[0] != 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_exported_file_is_the_map(flow, tmp_path, dtype):
    """Values and gradients at conformations that the graph was not recorded with, one by one and in batches."""
    path = export_torchscript(flow, tmp_path / "map.pt")
    loaded, variables = torch.jit.load(str(path)), CollectiveVariables(flow)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-10
    x = torch.from_numpy(X[:5]).reshape(5, -1).to(dtype).requires_grad_()
    for part in (x[:1], x):
        ours, theirs = variables(part), loaded(part)
        assert theirs.dtype == dtype
        assert torch.allclose(ours, theirs, atol=tolerance)
        gradients = [torch.autograd.grad(v.sum(), x, retain_graph=True)[0] for v in (ours, theirs)]
        assert torch.allclose(*gradients, atol=100 * tolerance)
    with pytest.raises(ValueError, match="ends in .pt"):
        export_torchscript(flow, tmp_path / "map.onnx")


def test_the_calls_that_plumed_makes(flow, tmp_path):
    """PYTORCH_MODEL asks once with zeros how many numbers come out, then for every number's gradient, in float32."""
    loaded = torch.jit.load(str(export_torchscript(flow, tmp_path / "map.pt")))
    variables = CollectiveVariables(flow)
    assert loaded(torch.zeros(1, 3 * N)).numel() == len(variables.names)
    x = torch.tensor(X[2].ravel(), dtype=torch.float32).view(1, -1).requires_grad_()
    out = loaded(x)
    exact = torch.from_numpy(X[2]).reshape(1, -1).requires_grad_()
    for j, value in enumerate(variables(exact)[0]):
        gradient = torch.autograd.grad([out[:, j : j + 1]], [x], [torch.ones(1, 1)], retain_graph=True)[0]
        expected = torch.autograd.grad(value, exact, retain_graph=True)[0]
        assert out[0, j].item() == pytest.approx(value.item(), abs=1e-5)
        assert torch.allclose(gradient.double(), expected, atol=1e-4 * float(expected.abs().max()))


def test_plumed_input_names_every_coordinate(flow):
    text = plumed_input(flow, "runs/map.pt", first=11)
    assert text.count("POSITION") == N
    assert "ATOM=11 " in text
    assert f"ENTITY0=11-{10 + N}" in text
    assert "FILE=map.pt ARG=p0.x,p0.y,p0.z,p1.x" in text
    assert "map.node-2 is sin_z2" in text


def test_mistakes_are_named(flow):
    with pytest.raises(ValueError, match="expected one of z1, cos_z2, sin_z2"):
        latent_force(flow, "z2")
    with pytest.raises(ValueError, match="one for every atom"):
        latent_force(flow, "z1", particles=[0, 1])
