"""Networks on molecular graphs; they know nothing of flows."""

from molifold.networks.attention import GraphAttention
from molifold.networks.filters import GraphFilters
from molifold.networks.graph import Graph, molecular_graph

__all__ = ["Graph", "GraphAttention", "GraphFilters", "molecular_graph"]
