"""Limits of the machine with this many threads: `limits.py bandwidth` (bytes/s) or `limits.py flops` (FLOP/s)."""

from __future__ import annotations

import sys

import torch
from serve import serve

if sys.argv[1] == "bandwidth":
    a, b, c = (torch.rand(64 * 2**20) for _ in range(3))  # 256 MB each: no cache holds them

    def triad() -> None:
        torch.add(b, c, alpha=0.5, out=a)

    serve(triad, {"bytes": 3 * a.numel() * a.element_size()})
else:
    x, y = torch.rand(2048, 2048), torch.rand(2048, 2048)
    z = torch.empty(2048, 2048)

    def product() -> None:
        torch.mm(x, y, out=z)

    serve(product, {"flops": 2 * 2048**3})
