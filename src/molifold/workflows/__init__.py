"""What one command of the command line does, as one function each; they join all other parts."""

from molifold.workflows.check import Finding, check
from molifold.workflows.demo import demo
from molifold.workflows.sample import Summary, export, sample, summarize
from molifold.workflows.simulate import find_system, simulate
from molifold.workflows.train import train

__all__ = ["Finding", "Summary", "check", "demo", "export", "find_system", "sample", "simulate", "summarize", "train"]
