"""Programs of Quantum ESPRESSO that play back what real ones printed of MgO."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import numpy as np
from pymatgen.core import Lattice, Structure

from zoo.api import Candidate
from zoo.oracles.espresso import Espresso
from zoo.oracles.espresso_hypers import EspressoHypers

MGO = Structure(Lattice([[0, 2.12, 2.12], [2.12, 0, 2.12], [2.12, 2.12, 0]]), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])

SCF = """
     Program PWSCF v.6.7MaX starts on 28Nov2026 at  6:13:32
     number of k points=     2
     highest occupied, lowest unoccupied level (ev):     8.2802   13.0614
     convergence has been achieved in  10 iterations
     Forces acting on atoms (cartesian axes, Ry/au):

     atom    1 type  1   force =     0.00000000    0.00030000   -0.00040000
     atom    2 type  2   force =     0.00000000   -0.00030000    0.00040000

     Total force =     0.000707     Total SCF correction =     0.000000
   JOB DONE.
"""
RELAX = """
     Program PWSCF v.6.7MaX starts on 28Nov2026 at  6:13:32
Begin final coordinates

ATOMIC_POSITIONS (angstrom)
Mg            0.0000000000        0.0000000000        0.0000000000
O             2.1200000000        2.1200000000        2.1300000000
End final coordinates
   JOB DONE.
"""
PH = """
     Program PHONON v.6.7MaX starts on 28Nov2026 at  6:13:33

     Calculation of q =    0.0000000   0.0000000   0.0000000

          Dielectric constant in cartesian axis

          (       3.405431990      -0.000000000       0.000000000 )
          (      -0.000000000       3.405431990      -0.000000000 )
          (       0.000000000      -0.000000000       3.405431990 )

   JOB DONE.
"""
DYNMAT = """
     Program DYNMAT v.6.7MaX starts on 28Nov2026 at  6:13:36
# mode   [cm-1]    [THz]      IR
    1     -0.00   -0.0000    0.0000
    2      0.00    0.0000    0.0000
    3      0.00    0.0000    0.0000
    4    297.05    8.9052   11.2208
    5    297.05    8.9052   11.2208
    6    297.05    8.9052   11.2208

Electronic dielectric permittivity tensor (F/m units)
         3.405432   -0.000000    0.000000
        -0.000000    3.405432   -0.000000
         0.000000   -0.000000    3.405432

 ... with zone-center polar mode contributions
        17.638331    0.000000   -0.000000
         0.000000   17.638331    0.000000
        -0.000000    0.000000   17.638331

   JOB DONE.
"""
MATRIX = """
     Effective Charges E-U: Z_{alpha}{s,beta}

     atom #    1
          2.246886446631          0.000000000000         -0.000000000000
          0.000000000000          2.246886446631         -0.000000000000
         -0.000000000000         -0.000000000000          2.246886446631
     atom #    2
         -2.085509065234         -0.000000000000         -0.000000000000
          0.000000000000         -2.085509065234         -0.000000000000
         -0.000000000000         -0.000000000000         -2.085509065234

     Diagonalizing the dynamical matrix
"""
ERROR = """
     Program PWSCF v.6.7MaX starts on 28Nov2026 at  6:13:32
 %%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%
     Error in routine  cdiaghg (159):
      S matrix not positive definite
 %%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%
     stopping ...
"""


def potential(folder: Path, name: str, electrons: float, kind: str = "NC", functional: str = "PBE") -> None:
    folder.mkdir(exist_ok=True)
    header = f'pseudo_type="{kind}"\nfunctional="{functional}"\nz_valence="   {electrons:.2f}"'
    (folder / name).write_text(f'<UPF version="2.0.1">\n<PP_HEADER\n{header}\n/>\n')


def turned(structure: Structure, rotation: np.ndarray) -> Structure:
    """r -> R r."""
    return Structure(Lattice(structure.lattice.matrix @ rotation.T), structure.species, structure.frac_coords)


class Played:
    """Programs that print what is in a folder, note that they were called, and hang or fail if a file says so."""

    def __init__(self, folder: Path) -> None:
        self.place = folder / "played"
        self.place.mkdir()
        self.folder = folder / "crystal"
        self.folder.mkdir()
        potential(folder / "upf", "Mg.upf", 10)
        potential(folder / "upf", "O.upf", 6)
        potential(folder / "upf", "H.upf", 1)
        for name, text in {"relax": RELAX, "scf": SCF, "ph": PH, "dynmat": DYNMAT}.items():
            self.prints(name, text)
        (self.place / "matrix").write_text(MATRIX)
        self.hypers = {"pseudopotentials": str(folder / "upf")}
        for name in ("pw", "ph", "dynmat"):
            program = self.place / f"{name}.x"
            program.write_text(
                textwrap.dedent(f"""\
                #!/bin/sh
                name=$(basename "$2" .in)
                echo $name $(grep -c "recover.*true" "$2") >> {self.place}/calls
                mkdir -p scratch
                if [ $name = ph ]; then mkdir -p scratch/_ph0; cp {self.place}/matrix dynamical_matrix; fi
                if [ -e {self.place}/$name.hangs ]; then echo $$ > {self.place}/pid; sleep 600; fi
                cat {self.place}/$name.prints
                if [ -e {self.place}/$name.fails ]; then exit 1; fi
                if [ -e {self.place}/$name.fails_to_recover ]; then grep -q "recover.*true" "$2" && exit 1; fi
                exit 0
                """)
            )
            program.chmod(0o755)
            self.hypers[name] = str(program)

    def prints(self, name: str, text: str) -> None:
        (self.place / f"{name}.prints").write_text(text)

    def says(self, file: str) -> None:
        (self.place / file).touch()

    def calls(self) -> list[str]:
        path = self.place / "calls"
        called = path.read_text().splitlines() if path.is_file() else []
        path.unlink(missing_ok=True)
        return called

    def oracle(self, **changes: Any) -> Espresso:
        return Espresso(EspressoHypers(**(self.hypers | changes)))

    def ask(self, structure: Structure = MGO, **changes: Any) -> Any:
        return self.oracle(**changes).tensors(Candidate("mine", structure), self.folder)
