"""Analysis: ensembles in, small frozen results with uncertainties out. NumPy and SciPy only."""

from molifold.analysis.acceptance import Acceptance, independence_acceptance
from molifold.analysis.columns import measure, ramachandran_pairs
from molifold.analysis.comparison import TorsionComparison, map_divergence, torsion_comparison
from molifold.analysis.divergence import Divergence, compare
from molifold.analysis.energies import EnergyComparison, energy_comparison, reduced_energy
from molifold.analysis.ensemble_analysis import EnsembleAnalysis
from molifold.analysis.ensemble_comparison import (
    Basin,
    EnergyMoments,
    EnsembleComparison,
    FreedomComparison,
    MapComparison,
    Row,
)
from molifold.analysis.ensembles import compare_ensembles
from molifold.analysis.ensembles_alone import analyze_ensemble
from molifold.analysis.free_energy import (
    POSITIVE_PHI,
    FreeEnergyDifference,
    alanine_basins,
    between,
    free_energy_difference,
    population,
)
from molifold.analysis.freedom import DegreeOfFreedom, degrees_of_freedom, hydrogen_bonds
from molifold.analysis.histograms import (
    Histogram,
    Map,
    circular_histogram,
    jensen_shannon,
    kl_divergence,
    ramachandran,
    total_variation,
)
from molifold.analysis.pareto import ParetoK, pareto_k
from molifold.analysis.torsions import multimodality, named_torsions
from molifold.analysis.uncertainty import Estimate
from molifold.analysis.verdict import Finding, Verdict, verdict
from molifold.analysis.weights import (
    EffectiveSampleSize,
    effective_fraction_by_size,
    effective_sample_size,
    forward_effective_sample_size,
    log_z,
    reweighted_mean,
)

__all__ = [
    "Acceptance", "Basin", "DegreeOfFreedom", "Divergence", "EffectiveSampleSize", "EnergyComparison", "EnergyMoments",
    "EnsembleAnalysis", "EnsembleComparison", "Estimate", "Finding", "FreeEnergyDifference", "FreedomComparison",
    "Histogram", "Map", "MapComparison", "POSITIVE_PHI", "ParetoK", "Row", "TorsionComparison", "Verdict",
    "alanine_basins", "analyze_ensemble", "between",
    "circular_histogram", "compare", "compare_ensembles", "degrees_of_freedom", "effective_fraction_by_size",
    "effective_sample_size", "energy_comparison", "forward_effective_sample_size", "free_energy_difference",
    "hydrogen_bonds", "independence_acceptance", "jensen_shannon", "kl_divergence", "log_z", "map_divergence",
    "measure", "multimodality", "named_torsions", "pareto_k", "population", "ramachandran", "ramachandran_pairs",
    "reduced_energy", "reweighted_mean", "torsion_comparison", "total_variation", "verdict",
]  # fmt: skip
