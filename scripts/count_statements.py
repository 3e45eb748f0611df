"""Count files, lines and statements of the source, by folder: `python scripts/count_statements.py [CHECKOUT]`.

A statement is a node `ast.stmt` of the syntax tree; docstrings are none. Unlike lines, their number does not depend
on how the code is formatted or documented.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

FOLDERS = ("zoo", "encoders", "readouts", "benchmarks", "scripts", "tests")


def statements(text: str) -> int:
    """Number of statements in a module, without docstrings."""
    nodes = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.stmt)]
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = sum(
        isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None
        for node in ast.walk(ast.parse(text))
    )
    return len(nodes) - docstrings


def main(root: Path) -> None:
    """Print a row a folder, and the sum of the source (all folders but the tests)."""
    rows = []
    for folder in FOLDERS:
        texts = [path.read_text(encoding="utf-8") for path in sorted((root / folder).rglob("*.py"))]
        rows.append((folder, len(texts), sum(t.count("\n") for t in texts), sum(map(statements, texts))))
    source = [row for row in rows if row[0] != "tests"]
    rows.append(("source", *(sum(row[k] for row in source) for k in (1, 2, 3))))
    print(f"{'folder':<12}{'files':>8}{'lines':>8}{'statements':>12}")
    for name, files, lines, count in rows:
        print(f"{name:<12}{files:>8}{lines:>8}{count:>12}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1])
