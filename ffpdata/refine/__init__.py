"""Refinement by people: the review page, its server, and the verdicts in and out."""
