"""Video and image files in and out, mask geometry, optical flow. Frames are uint8 RGB, masks are bool."""
