"""The embedded CPU default of every role: no weights to fetch, honest about what it cannot do."""
