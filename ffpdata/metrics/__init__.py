"""Numbers of a pair: one function each, with unit, direction, range and meaning."""
