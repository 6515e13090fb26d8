"""The embedded segmenter: camera-compensated motion, GrabCut and optical flow."""
