"""Wan 2.1 and VACE: shared code of the back ends `vace`, `vace_diffusers` and `wan_i2v`."""
