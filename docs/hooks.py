"""What mkdocs does here beyond rendering: tables are filled in, and files of the repository can be linked to.

    <!-- generated: NAME -->   in a page becomes `pages.TABLES[NAME]()`, made from the code's own tables
    ../../examples/x.scd       in a page becomes a link to a copy of that file, in the site's folder repository/

So a link is right where a page is read in the repository, and in the site; mkdocs' own check finds the dead ones. The
README is checked in the same way: it is a page of the site, though nothing there leads to it.

Rules: mkdocs' events only; what the tables say is pages.py's.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pages
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
BESIDE = "repository/"
PROJECT = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "streamgen/pocket/README.md")

_MARK = re.compile(r"^<!-- generated: ([\w-]+) -->$", re.MULTILINE)
_LINK = re.compile(
    r"""(?P<before>!?\[(?P<label>(?:[^\[\]]|!?\[[^\]]*\](?:\([^)]*\))?)*)\]\(|src=")(?P<to>[^)\s"#]+)(?P<rest>[^)"]*[)"])"""
)
_UNSEARCHED = "---\nsearch:\n  exclude: true\n---\n\n"


def on_files(files: Files, config: MkDocsConfig, **_: Any) -> Files:
    """Add the files of the repository that pages link to."""
    found = {file.src_uri for file in files if file.is_documentation_page()}
    waiting = [f"docs/{uri}" for uri in found] + list(PROJECT)
    known: set[str] = set()
    while waiting:
        path = waiting.pop()
        if path in known:
            continue
        known.add(path)
        if not path.startswith("docs/"):
            files.append(_copied(path, config))
        if path.endswith(".md"):
            waiting += [to for to in _linked(path) if (ROOT / to).is_file() and not to.startswith("docs/")]
    return files


def _copied(path: str, config: MkDocsConfig) -> File:
    if path == "README.md":  # its words are the site's own, and need not be found twice
        return File.generated(config, BESIDE + path, content=_UNSEARCHED + (ROOT / path).read_text(encoding="utf-8"))
    return File.generated(config, BESIDE + path, abs_src_path=str(ROOT / path))


def _linked(path: str) -> Iterator[str]:
    """Give the paths in the repository that a page's links lead to."""
    for link in _LINK.finditer((ROOT / path).read_text(encoding="utf-8")):
        if "://" not in link["to"]:
            yield posixpath.normpath(posixpath.join(posixpath.dirname(path), link["to"]))


def on_page_markdown(markdown: str, page: Page, files: Files, **_: Any) -> str:
    """Fill in the tables, and turn links to the repository to the copies."""
    uri = page.file.src_uri
    place = uri.removeprefix(BESIDE) if uri.startswith(BESIDE) else f"docs/{uri}"

    def turned(link: re.Match[str]) -> str:
        if "://" in link["to"]:
            return link[0]
        to = posixpath.normpath(posixpath.join(posixpath.dirname(place), link["to"]))
        if (ROOT / to).is_dir() and link["label"]:
            return str(link["label"])  # a site has no listing of a folder
        inside = to.removeprefix("docs/") if to.startswith("docs/") else BESIDE + to
        if files.get_file_from_path(inside) is None:
            return link[0]  # mkdocs warns of it
        return link["before"] + os.path.relpath(inside, posixpath.dirname(uri) or ".") + link["rest"]

    return _LINK.sub(turned, _MARK.sub(lambda mark: _generated(mark[1], uri), markdown))


def _generated(name: str, uri: str) -> str:
    if name not in pages.TABLES:
        raise PluginError(f"{uri} wants a table {name!r}; there are {', '.join(pages.TABLES)}")
    return pages.TABLES[name]().strip()
