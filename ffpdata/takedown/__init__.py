"""Taking sources down: out of a run, with every file that was made of them, and out of an export."""
