"""M6-Rec Mini: a compact, readable reference for multimodal generative recommendation."""

__version__ = "0.1.0"
