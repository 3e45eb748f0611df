"""From a recipe to a finished run: training, evaluation, Matbench."""
