"""Networks on molecular graphs; they know nothing of flows."""

from molifold.networks.attention import GraphAttention
from molifold.networks.filters import GraphFilters
from molifold.networks.graph import Graph, molecular_graph
from molifold.networks.schnet import SchNet

__all__ = ["Graph", "GraphAttention", "GraphFilters", "SchNet", "molecular_graph"]
