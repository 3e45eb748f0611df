"""Datasets and what is done to their records before a model sees them."""
