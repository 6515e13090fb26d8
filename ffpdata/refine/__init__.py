"""Refinement by people: the review page, its server, and the verdicts in and out."""

FOLDER = "refine"
"""Folder of the refinement loop in a run folder."""

PROMOTED = f"{FOLDER}/promoted.yaml"
"""The remover in force there, as a profile."""
