"""Hooks of MkDocs: what pages link to outside docs/ (README files, source) becomes part of the site.

The pages are written for GitHub, where a link is a path in the repository. A Markdown file outside docs/ becomes a page
of its own path; any other file is copied beneath `source/`.
"""

from __future__ import annotations

import json
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#|/)([^)\s#]+)(#[^)\s]*)?(?=\))")
HREF = re.compile(r'(?<=href=")(?![a-z]+:|#|/)([^"#]+\.md)(#[^"]*)?(?=")')
ALWAYS = ("CONTRIBUTING.md", "CHANGELOG.md", "mlflow/README.md")
"""Pages that the navigation names."""


def on_files(files: Files, config: Any) -> Files:
    """Add the files outside docs/ that pages link to, and those that such files link to."""
    waiting = [ROOT / name for name in ALWAYS]
    waiting += [Path(file.abs_src_path) for file in files if file.src_uri.endswith((".md", ".ipynb"))]
    added: set[str] = set()
    while waiting:
        path = waiting.pop()
        where = path.relative_to(ROOT).as_posix()
        if not where.startswith("docs/") and where not in added:
            added.add(where)
            files.append(File.generated(config, _uri(where), abs_src_path=str(path)))
        if path.suffix in (".md", ".ipynb"):
            linked = (_repository_path(where, link[1]) for link in LINK.finditer(_text(path)))
            waiting += [ROOT / other for other in linked if _is_outside(other) and other not in added]
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Turn each link into one between the pages of the site."""
    own = page.file.src_uri
    where = own if (ROOT / own).is_file() else f"docs/{own}"

    def moved(link: re.Match[str]) -> str:
        target = _repository_path(where, link[1])
        if not (ROOT / target).is_file():
            return link[0]  # MkDocs says that it is broken
        return posixpath.relpath(_uri(target), posixpath.dirname(own) or ".") + (link[2] or "")

    return LINK.sub(moved, markdown)


def on_page_content(html: str, page: Any, config: Any, files: Files) -> str:
    """Turn the links of a notebook to Markdown files into links to their pages: its plugin leaves them as they are."""
    if not page.file.src_uri.endswith(".ipynb"):
        return html

    def moved(link: re.Match[str]) -> str:
        found = files.get_file_from_path(_uri(_repository_path(f"docs/{page.file.src_uri}", link[1])))
        if found is None:
            raise ValueError(f"{page.file.src_uri} links to {link[1]}, which is no page")
        return found.url_relative_to(page.file) + (link[2] or "")

    return HREF.sub(moved, html)


def _text(path: Path) -> str:
    """The text of a page; of a notebook that of its Markdown."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".ipynb":
        return text
    return "\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"] if cell["cell_type"] == "markdown")


def _repository_path(page: str, link: str) -> str:
    """The path in the repository that a link on a page, itself such a path, leads to."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(page), link))


def _is_outside(path: str) -> bool:
    return not path.startswith(("docs/", "..")) and (ROOT / path).is_file()


def _uri(path: str) -> str:
    """Return the path in the site of a file of the repository."""
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    return path if path.endswith(".md") else f"source/{path}"
