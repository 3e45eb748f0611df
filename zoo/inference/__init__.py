"""Asking a trained model: predictions, their novelty, and the features of an encoder."""
