"""Pretraining, or tuning, of an encoder as an interatomic potential."""
