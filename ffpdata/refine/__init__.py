"""The refinement loop of removals: rounds of training, and their comparison."""

FOLDER = "refine"
"""Folder of the refinement loop in a run folder."""

PROMOTED = f"{FOLDER}/promoted.yaml"
"""The remover in force there, as a profile."""
