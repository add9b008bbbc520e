"""Networks on molecular graphs; they know nothing of flows."""

from molifold.networks.attention import GraphAttention
from molifold.networks.graph import Graph, molecular_graph

__all__ = ["Graph", "GraphAttention", "molecular_graph"]
