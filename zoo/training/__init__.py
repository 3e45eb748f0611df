"""The one trainer of the zoo, for every pair of plugins."""
