"""The report of a run: its manifests and artifacts go in, one HTML file with funnel, numbers and pairs comes out."""
