"""Networks on molecular graphs; they know nothing of flows."""

from molifold.networks.attention import GAT, GraphAttention
from molifold.networks.calculator import ase_calculator
from molifold.networks.filters import GraphFilters
from molifold.networks.graph import Graph, molecular_graph
from molifold.networks.megnet import MEGNet
from molifold.networks.property import Property
from molifold.networks.schnet import SchNet

__all__ = [
    "GAT",
    "Graph",
    "GraphAttention",
    "GraphFilters",
    "MEGNet",
    "Property",
    "SchNet",
    "ase_calculator",
    "molecular_graph",
]
