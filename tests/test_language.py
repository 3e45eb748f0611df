"""The first line of a docstring is a sentence of its own, for a reader who has not seen the code."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
FRAGMENTS = ("Of ", "As ", "What ", "Those ", "That ", "Which ", "How ", "Whose ", "Where ", "See ")


def docstrings(text: str) -> list[tuple[int, str]]:
    """All docstrings of a module with their lines, those below attributes included."""
    bodies = [node.body for node in ast.walk(ast.parse(text)) if isinstance(getattr(node, "body", None), list)]
    return [
        (statement.lineno, statement.value.value.strip())
        for body in bodies
        for statement in body
        if isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    ]


def test_docstrings_are_found() -> None:
    text = (
        '"""Of a module."""\nclass A:\n    x: int\n    """As an attribute."""\n    def f(self):\n        """See f."""\n'
    )
    assert docstrings(text) == [(1, "Of a module."), (4, "As an attribute."), (6, "See f.")]


def test_no_docstring_begins_in_the_middle_of_a_thought() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}: {text.splitlines()[0]}"
        for folder in ("zoo", "encoders", "readouts", "benchmarks", "scripts")
        for path in sorted((ROOT / folder).rglob("*.py"))
        for line, text in docstrings(path.read_text(encoding="utf-8"))
        if text.startswith(FRAGMENTS)
    ]
    assert not found, "\n".join(found)
