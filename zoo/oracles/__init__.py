"""What tells the tensor of a crystal for good: DFPT calculations, and labels that are hidden to test a search."""
