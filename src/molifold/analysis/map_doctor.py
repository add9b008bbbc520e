"""Training doctor of a latent map: what is wrong with its dimensions and its lag, in numbers and in words."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray

from molifold.analysis.map_quality import waves
from molifold.finding import Finding

#: A latent whose mean varies less than this over the frames is not active (Burda et al. 2016, arXiv 1509.00519).
ACTIVE = 0.01
#: Nats about the frame; below, a latent tells next to nothing.
INFORMED = 0.1
#: Two latents that correlate more than this are one.
DUPLICATE = 0.99
#: Fewer crossings between the two ends of the slowest mode than this leave its timescale to chance.
CROSSINGS = 5
#: Timescales that change by more than this between lag and twice the lag have not converged.
CONVERGED = 0.3
#: Eigenvalues above this over one lag say that nothing happens within it.
STILL = 0.98
#: Random shifts of the trajectories against themselves behind the noise floor of the eigenvalue.
SHIFTS = 20
#: Frames for the mutual information, which takes time squared.
MUTUAL = 1500

#: Standard deviation below which a latent does not vary at all, to rounding.
STANDSTILL = 1e-9


@dataclass(frozen=True)
class Diagnosis:
    """What the doctor measured, and the findings.

    Args:
        effective_rank: exp of the entropy of the spectrum of the latents' correlation matrix, 1 to their number.
        condition: ratio of its largest and smallest eigenvalues.
        activity: [latents] variance of the posterior mean (1 - resultant length for circular latents).
        information: [latents] nats: mutual information of a latent and the frame, the KL of q(z|x) from its average.
        eigenvalue, eigenvalue_error: of the slowest mode at the lag; scatter over trajectories (nan for one).
        noise: largest eigenvalue that frames unrelated in time would give, 95 %.
        timescale, timescale_double: of the slowest mode from the lag and from twice the lag, in units of the lag's.
        crossings: of the slowest mode between its two ends, within trajectories.
        findings: in words.
    """

    effective_rank: float
    condition: float
    activity: Float[ndarray, " latents"]
    information: Float[ndarray, " latents"]
    eigenvalue: float
    eigenvalue_error: float
    noise: float
    timescale: float
    timescale_double: float
    crossings: int
    findings: tuple[Finding, ...]

    def __repr__(self) -> str:
        return "\n".join(map(repr, self.findings))


def diagnose(
    z: Float[ndarray, "frames latents"],
    *,
    sigma: Float[ndarray, "frames latents"] | None = None,
    circular: Bool[ndarray, " latents"] | None = None,
    trajectory: ndarray | None = None,
    lag: int | None = None,
    seed: int = 0,
) -> Diagnosis:
    """Examine the latents of any model (a ``LatentMap``, a VAE, a VAMPnet) on frames in order of time.

    Args:
        z: posterior means, or outputs.
        sigma: posterior widths; without them nothing is said about information.
        circular: latents that are angles.
        trajectory: of every frame; all are one without it.
        lag: frames; without it nothing is said about time.
        seed: of subsets and shifts.

    Raises:
        ValueError: if z is not finite, or no trajectory is longer than twice the lag.

    >>> rng = np.random.default_rng(0)
    >>> noise = rng.normal(size=(4000, 1))
    >>> diagnose(np.concatenate([noise, 2 * noise], axis=1)).findings[0]
    error: rank: z1 and z2 are the same up to scale (|r| = 1.000) -> give one of them away, or ... covariance
    """
    z = np.asarray(z, dtype=float)
    if z.ndim != 2 or len(z) < 100 or not np.isfinite(z).all():
        raise ValueError(
            f"z: got shape {z.shape}, finite: {bool(np.isfinite(z).all())}; expected 100 or more finite rows"
        )
    circle = np.zeros(z.shape[1], dtype=bool) if circular is None else np.asarray(circular)
    activity = np.where(circle, 1 - np.abs(np.exp(1j * z).mean(0)), z.var(axis=0))
    rank, condition = _spectrum(waves(z, circle))
    information = np.full(z.shape[1], np.nan)
    if sigma is not None:
        information = mutual_information(z, np.asarray(sigma, dtype=float), circular=circle, seed=seed)
    findings = [*_rank_findings(z, circle, activity), *_information_findings(information, activity)]
    time = {"eigenvalue": np.nan, "eigenvalue_error": np.nan, "noise": np.nan, "timescale": np.nan,
            "timescale_double": np.nan, "crossings": 0}  # fmt: skip
    if lag is not None and (waves(z, circle).std(axis=0) > STANDSTILL).any():
        group = np.zeros(len(z), dtype=int) if trajectory is None else np.asarray(trajectory)
        time = _slow_mode(waves(z, circle), group, lag, seed)
        findings += _time_findings(time, lag, group)
    if not findings:
        findings = [
            Finding("ok", "map", "every latent is active, distinct and informed; the lag suits the slow process")
        ]
    return Diagnosis(effective_rank=rank, condition=condition, activity=activity, information=information,
                     findings=tuple(findings), **time)  # type: ignore[arg-type]  # fmt: skip


def mutual_information(
    z: Float[ndarray, "frames latents"],
    sigma: Float[ndarray, "frames latents"],
    *,
    circular: Bool[ndarray, " latents"],
    seed: int = 0,
) -> Float[ndarray, " latents"]:
    """Nats that every latent carries about the frame: the mean KL of q(z_j|x) from its average over frames.

    Unlike the KL from the prior it does not depend on the prior, and is zero exactly for a collapsed latent. It cannot
    exceed log of the number of frames it is estimated from (7.3 for 1500).

    Reference: Hoffman and Johnson (2016), "ELBO surgery".
    """
    rng = np.random.default_rng(seed)
    rows = rng.permutation(len(z))[:MUTUAL]
    mean, width = z[rows], sigma[rows]
    draws = mean + width * rng.normal(size=mean.shape)
    out = np.empty(z.shape[1])
    for j in range(z.shape[1]):
        distance = draws[:, None, j] - mean[None, :, j]
        turns = 2 * np.pi * np.arange(-3, 4) if circular[j] else np.zeros(1)
        log_q = np.logaddexp.reduce(-0.5 * ((distance[..., None] + turns) / width[None, :, j, None]) ** 2, axis=-1)
        log_q = log_q - np.log(width[None, :, j])
        average = np.logaddexp.reduce(log_q, axis=1) - np.log(len(rows))
        out[j] = np.mean(np.diagonal(log_q) - average)
    return out


def _spectrum(features: Float[ndarray, "frames features"]) -> tuple[float, float]:
    spread = features.std(axis=0)
    kept = features[:, spread > STANDSTILL]
    if not kept.shape[1]:
        return 0.0, float("inf")
    values = np.linalg.eigvalsh(np.atleast_2d(np.corrcoef(kept, rowvar=False))).clip(1e-15)
    share = values / values.sum()
    return float(np.exp(-(share * np.log(share)).sum())), float(values[-1] / values[0])


def _rank_findings(z: ndarray, circle: ndarray, activity: ndarray) -> list[Finding]:
    found = []
    columns = [waves(z[:, i : i + 1], circle[i : i + 1]) for i in range(z.shape[1])]
    for i in range(len(columns)):
        for j in range(i + 1, len(columns)):
            if activity[i] < 1e-12 or activity[j] < 1e-12:
                continue
            a, b = (c - c.mean(0) for c in (columns[i], columns[j]))
            qa, qb = np.linalg.qr(a)[0], np.linalg.qr(b)[0]
            r = np.linalg.norm(qa.T @ qb, 2)
            if r > DUPLICATE:
                message = f"z{i + 1} and z{j + 1} are the same up to scale (|r| = {min(r, 1):.3f})"
                remedy = "give one of them away, or train with losses.vamp2, which rewards only what is new; larger "
                found.append(Finding("error", "rank", message, remedy + "batches steady its covariance"))
    return found


def _information_findings(information: ndarray, activity: ndarray) -> list[Finding]:
    idle = [i for i in range(len(activity)) if activity[i] < ACTIVE or information[i] < INFORMED]
    if not idle:
        return []
    told = ", ".join(
        f"z{i + 1} (variance of the mean {activity[i]:.2g}"
        + (f", {information[i]:.2f} nats)" if np.isfinite(information[i]) else ")")
        for i in idle
    )
    if len(idle) == len(activity):
        remedy = "posterior collapse: raise free_bits or slowness, lower beta, or start from a map trained with vamp2"
        return [Finding("error", "collapse", f"no latent says anything about the frame: {told}", remedy)]
    remedy = "use fewer latents, or raise free_bits"
    return [Finding("warning", "active units", f"idle: {told}", remedy)]


def _slow_mode(features: ndarray, group: ndarray, lag: int, seed: int) -> dict[str, float | int]:
    """The slowest reversible mode, its noise floor, and how often it is crossed."""
    order = np.argsort(group, kind="stable")
    x, g = features[order], group[order]
    x = x[:, x.std(axis=0) > STANDSTILL]
    lengths = np.unique(g, return_counts=True)[1]
    if lengths.max() <= 2 * lag:
        raise ValueError(f"lag: got {lag} frames, expected a trajectory longer than twice that")
    parts = [x[g == name] for name in np.unique(g)]
    eigenvalue, mode = _leading(parts, lag)
    double = _autocorrelation([p @ mode for p in parts], 2 * lag)
    each = [_autocorrelation([p @ mode], lag) for p in parts if len(p) > 2 * lag and (p @ mode).std() > 1e-9]
    error = float(np.std(each, ddof=1) / np.sqrt(len(each))) if len(each) > 1 else float("nan")
    rng = np.random.default_rng(seed)
    floors = []
    for _ in range(SHIFTS):
        # Time running past itself by a random stretch keeps the correlations in either copy and none between them.
        pairs = [(p, np.roll(p, int(rng.integers(len(p) // 4, 3 * len(p) // 4 + 1)), axis=0)) for p in parts]
        floors.append(
            _leading_of_pairs(np.concatenate([a for a, _ in pairs]), np.concatenate([b for _, b in pairs]))[0]
        )
    return {
        "eigenvalue": eigenvalue,
        "eigenvalue_error": error,
        "noise": float(np.quantile(floors, 0.95)),
        "timescale": _timescale(eigenvalue, lag),
        "timescale_double": _timescale(double, 2 * lag),
        "crossings": sum(_crossings(p @ mode, *_ends(np.concatenate(parts) @ mode)) for p in parts),
    }


def _leading(parts: list[ndarray], lag: int) -> tuple[float, ndarray]:
    long = [p for p in parts if len(p) > lag]
    return _leading_of_pairs(np.concatenate([p[:-lag] for p in long]), np.concatenate([p[lag:] for p in long]))


def _leading_of_pairs(now: ndarray, later: ndarray) -> tuple[float, ndarray]:
    """Largest eigenvalue and its mode, estimated as for a process in equilibrium (symmetrised)."""
    from scipy.linalg import eigh

    both = np.concatenate([now, later])
    mean = both.mean(axis=0)
    a, b = now - mean, later - mean
    c0 = (a.T @ a + b.T @ b) / (2 * len(a))
    ct = (a.T @ b + b.T @ a) / (2 * len(a))
    c0 += 1e-9 * np.trace(c0) / len(c0) * np.eye(len(c0))
    values, vectors = eigh(ct, c0)
    return float(values[-1]), vectors[:, -1]


def _autocorrelation(parts: list[ndarray], lag: int) -> float:
    return _leading([p[:, None] for p in parts], lag)[0]


def _timescale(eigenvalue: float, lag: int) -> float:
    return float(-lag / np.log(eigenvalue)) if 0 < eigenvalue < 1 else (float("inf") if eigenvalue >= 1 else 0.0)


def _ends(mode: ndarray) -> tuple[float, float]:
    """Where the two ends of a mode begin: a quarter of its range (without outliers) either side of the middle."""
    low, high = np.quantile(mode, [0.01, 0.99])
    return low + (high - low) / 4, high - (high - low) / 4


def _crossings(mode: ndarray, low: float, high: float) -> int:
    side = np.where(mode <= low, -1, np.where(mode >= high, 1, 0))
    visited = side[side != 0]
    return int((visited[1:] != visited[:-1]).sum())


def _time_findings(time: dict[str, float | int], lag: int, group: ndarray) -> list[Finding]:
    found, value, crossings = [], time["eigenvalue"], int(time["crossings"])
    names = len(np.unique(group))
    about = f"the slowest mode has eigenvalue {value:.3f} over {lag} frames"
    if crossings == 0:
        message = f"{about}, and none of {names} trajectories ever crosses it"
        remedy = (
            "the mode is the identity of the trajectories, not a process: simulate until trajectories connect "
            "(molifold simulate, replica exchange, a bias along this latent), or train on the connected part"
        )
        return [Finding("error", "disconnected", message, remedy)]
    if crossings < CROSSINGS:
        message = f"{about}, crossed only {crossings} times in all"
        found.append(Finding("warning", "few crossings", message, "simulate longer: its timescale rests on chance"))
    if value <= time["noise"]:
        message = f"{about}, no more than frames unrelated in time give ({time['noise']:.3f})"
        return [*found, Finding("error", "lag too long", message, f"shorten the lag below {lag} frames")]
    if value > STILL:
        message = f"{about}: next to nothing happens within a lag, so the score rewards any slow drift"
        found.append(Finding("warning", "lag too short", message, f"raise the lag, to {5 * lag} frames or so"))
    elif time["timescale_double"] > (1 + CONVERGED) * time["timescale"]:
        message = (
            f"the slowest timescale is {time['timescale']:.3g} frames from a lag of {lag} and "
            f"{time['timescale_double']:.3g} from {2 * lag}"
        )
        remedy = f"the latents keep memory at this lag: raise it to {2 * lag} frames, until timescales stay the same"
        found.append(Finding("warning", "lag too short", message, remedy))
    return found
