"""Crystals as graphs: neighbour lists, their cache on disk, batches."""
