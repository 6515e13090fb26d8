"""The review page: people judge pairs in the browser, and their verdicts go in and out."""
