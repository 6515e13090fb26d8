"""LoRA-Edit: an image-to-video model that is tuned to one clip, and then edits it (arXiv 2506.10082)."""
