"""Where files live: a store, local or remote, its locks, and the local copies of remote files."""
