"""Force constants at Γ from the energy of a potential, and what follows: modes, ionic tensor, infrared spectrum."""
