"""Trained encoders by which clips are judged: CLIP, DINOv2, PickScore and ViCLIP."""
