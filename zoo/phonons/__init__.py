"""Phonons at Γ, and what they make of light: ionic dielectric tensor, infrared spectrum, LO frequencies."""
