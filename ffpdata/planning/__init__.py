"""What a dataset will cost before it is made: expected amounts, a simulation of the run, and what a pilot measured."""
