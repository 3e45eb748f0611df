"""zoo: open, modular equivariant models for crystal tensors."""

__version__ = "0.1.0"
