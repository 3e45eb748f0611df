"""The recipes that ship with the zoo."""
