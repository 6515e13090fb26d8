"""The refinement loop of removals: a run with verdicts goes in, a trained and compared remover comes out.

A round trains the remover, makes all removals again and is promoted where it is better.
"""

FOLDER = "refine"
"""Folder of the refinement loop in a run folder."""

PROMOTED = f"{FOLDER}/promoted.yaml"
"""The remover of the last promoted round, as a profile."""
