"""Recipes, the settings of datasets, and the discovery of plugins."""
