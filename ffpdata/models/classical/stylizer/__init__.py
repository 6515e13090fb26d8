"""The embedded stylizer: an arbitrary-style network, stabilized by optical flow."""
