"""Small trained networks that come inside packages, as functions of a frame, and the back ends on them."""
