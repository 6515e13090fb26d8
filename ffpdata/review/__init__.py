"""The review page, on which people judge pairs in the browser: a run goes in, verdicts come out.

Verdicts are also exchanged as files, and other parts of the project can request them for certain pairs.
"""
