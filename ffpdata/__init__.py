"""ffpdata: the open builder of paired video-editing datasets."""

__version__ = "0.1.0"
