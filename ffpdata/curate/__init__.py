"""Curation: decisions that need the whole table: finished pairs with their verdicts go in, one row per pair comes out.

The row says whether the pair is kept, and its split. Thresholds are calibrated here, too.
"""
