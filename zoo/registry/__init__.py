"""The place of MLflow, and fetching from it: so low that weights can be named by a registered model."""
