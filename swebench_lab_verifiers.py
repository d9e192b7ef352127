"""What verifiers imports for the id `swebench-lab-verifiers`: it takes names of top-level modules only."""

from swebench_lab.integrations.verifiers import LabHarness, LabTaskset

__all__ = ["LabHarness", "LabTaskset"]
