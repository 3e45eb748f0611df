"""Where MLflow is, and what is fetched from it: so low that weights can be named by a registered model."""
