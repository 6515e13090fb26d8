"""Pairs out of a run: shards, their index, the dataset card, and what reads and checks them."""
