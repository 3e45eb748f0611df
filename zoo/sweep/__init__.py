"""Sweeps: one recipe varied over a grid, or searched by Optuna; a run a cell, one table and one figure."""
