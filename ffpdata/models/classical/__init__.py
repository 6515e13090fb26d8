"""The embedded CPU default of every role: it fetches no weights and rejects what it cannot do well."""
