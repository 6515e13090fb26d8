"""Evaluation of methods of video editing: benchmarks, results, statistics, tables."""
