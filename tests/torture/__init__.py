"""Torture: seeded attempts to make the zoo wrong without a word. `make torture`, or `python -m torture --help`.

A module is one kind of torture: `corruption`, `kills`, `fuzz`, `stores`. Its cases are numbered, and each is drawn from
the seed and its number alone, so that any can be repeated. The zoo survives a case (the result is bit for bit that of
the untouched work), refuses it (exit code 2 and one line), or has failed.
"""
