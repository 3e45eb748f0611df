"""Force constants at Γ from a potential's energy, and what follows from them: modes, ionic tensor, infrared spectrum."""
