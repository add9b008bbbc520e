"""Splits keep neighbours together; batches are a function of seed and step."""

import numpy as np
import pytest
import torch

from molifold import Ensemble, Molecule
from molifold.training.data import Frames, Shuffle, fingerprint, split

PARTICLE = Molecule(elements=("X",))


def ensemble(n, **columns):
    return Ensemble(PARTICLE, np.arange(3.0 * n).reshape(n, 1, 3), columns=columns)


def test_whole_trajectories_are_held_out():
    trajectory = np.random.default_rng(0).integers(0, 40, size=4000)
    training, held_out = split(ensemble(4000, trajectory=trajectory), fraction=0.1, seed=0)
    assert not set(trajectory[training]) & set(trajectory[held_out])
    assert len(held_out) == pytest.approx(400, abs=120)
    assert sorted([*training, *held_out]) == list(range(4000))


@pytest.mark.parametrize("columns", [{}, {"trajectory": np.repeat([7, 3, 7, 3], 250)}])
def test_few_trajectories_are_held_out_in_blocks(columns):
    training, held_out = split(ensemble(1000, **columns), fraction=0.1, seed=1)
    assert len(held_out) == 100
    inner = np.isin(held_out - 1, held_out) & np.isin(held_out + 1, held_out)
    assert inner.sum() >= 100 - 2 * 4
    assert len(set(training) & set(held_out)) == 0


def test_other_seeds_hold_out_other_frames():
    a, b = (split(ensemble(1000), fraction=0.1, seed=s)[1].tolist() for s in (0, 1))
    assert a != b


def test_nothing_left_is_an_error():
    with pytest.raises(ValueError, match="validation: got 0.9 of 1 frames"):
        split(ensemble(1), fraction=0.9, seed=0)


def test_every_epoch_is_another_permutation_and_steps_stand_alone():
    rows = Shuffle(100, batch_size=30, seed=4)
    assert rows.per_epoch == 3
    epochs = [[int(i) for step in range(1 + 3 * e, 4 + 3 * e) for i in rows(step)] for e in range(3)]
    assert all(len(set(e)) == 90 for e in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert Shuffle(100, batch_size=30, seed=4)(8).tolist() == rows(8).tolist()
    assert Shuffle(100, batch_size=30, seed=5)(8).tolist() != rows(8).tolist()


def test_frames_take_what_the_rows_say_from_memory_and_disk(monkeypatch):
    e = Ensemble(
        PARTICLE, np.arange(30.0).reshape(10, 1, 3), log_p=-np.arange(10.0), columns={"weight": np.arange(10.0)}
    )
    for size in (2**30, 0):
        monkeypatch.setattr("molifold.training.data.IN_MEMORY", size)
        frames = Frames(e, np.array([8, 2, 6]), dtype=torch.float64, device=torch.device("cpu"))
        x, log_p, weights = frames.take(np.array([2, 0]))
        assert x[:, 0, 0].tolist() == [18, 24]
        assert log_p.tolist() == [-6, -8]
        assert weights.tolist() == [6 / (16 / 3), 8 / (16 / 3)]


def test_fingerprints_tell_data_apart():
    assert fingerprint(ensemble(100)) == fingerprint(ensemble(100))
    assert fingerprint(ensemble(100)) != fingerprint(ensemble(101))
    other = Ensemble(PARTICLE, ensemble(100).x + 1)
    assert fingerprint(ensemble(100)) != fingerprint(other)
