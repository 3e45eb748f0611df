"""Oracles, which give the true tensor of a crystal: DFPT calculations, and hidden labels for testing a search."""
