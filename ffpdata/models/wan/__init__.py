"""Wan 2.1 and VACE: what the back ends `vace`, `vace_diffusers` and `wan_i2v` share."""
