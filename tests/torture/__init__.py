"""Torture: seeded attempts to make the zoo wrong without a word. `make torture`, or `python -m torture --help`.

A module is one kind of torture: `corruption`, `kills`, `fuzz`, `stores`. Its cases are numbered, and each is drawn from
the seed and its number alone, so that any can be repeated. The zoo survives a case (the result is bit for bit that of
the untouched work), refuses it (exit code 2 and one line), or has failed.
"""

import os

# Before numpy and torch are imported: one thread, so that results are the same to the bit, and nothing forks badly.
for _name in ("OMP", "OPENBLAS", "MKL"):
    os.environ[f"{_name}_NUM_THREADS"] = "1"
os.environ |= {"OMP_WAIT_POLICY": "PASSIVE", "MLFLOW_DISABLE_TELEMETRY": "true", "MPLBACKEND": "agg"}
os.environ |= {"MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false", "MLFLOW_LOGGING_LEVEL": "WARNING"}
os.environ.pop("MLFLOW_TRACKING_URI", None)
