"""The input of a run: a folder, glob or table, local or remote, goes in; items and copies of their files come out."""
