"""One small protocol per role (`protocols`) and the back ends that fill them."""
