"""The sum over neighbours that equivariant message passing spends its time in: Σ_j R(r_ij) (x_j ⊗ Y(r_ij))."""
