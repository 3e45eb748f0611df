"""Encoders trained as interatomic potentials, and the labels for that."""
