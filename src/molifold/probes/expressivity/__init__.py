"""Expressive power: which layers of any network lack it, what they miss, and what adding it would bring."""

from molifold.probes.expressivity.molecular import molecular_sources
from molifold.probes.expressivity.probe import expressivity
from molifold.probes.expressivity.verdict import Check, Expressivity, Verdict
from molifold.probes.expressivity.watching import watch_expressivity

__all__ = ["Check", "Expressivity", "Verdict", "expressivity", "molecular_sources", "watch_expressivity"]
