"""The report of a run: one HTML file with the funnel, the numbers and the pairs."""
