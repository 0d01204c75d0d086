"""A hook of mkdocs: pages that are made and not written, and links that lead out of docs/.

On a repository's page, ``docs/index.md`` and the files of the code can be linked to as they are. A site has only pages:
the README becomes the front page, ``docs/index.md`` the page of all pages, and every file of the code that a page links
to becomes a page that shows it. Notebooks and the API reference are made here too.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from api_reference import reference_pages
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.nav import Navigation
from mkdocs.structure.pages import Page
from notebook_pages import notebook_page

ROOT = Path(__file__).resolve().parent.parent
# Path in the repository -> path in the site, where the two differ; all of docs/ moves up by one folder.
MOVED = {
    "README.md": "index.md",
    "docs/index.md": "pages.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}
# A link's or a picture's target, without its anchor: not a web address, and not only an anchor.
_LINK = re.compile(r"(\]\()(?![a-z]+:|#)([^)\s#]+)")
_HIDDEN = "---\nsearch: { exclude: true }\n---\n"
# Long logs have every word in them: whoever searches wants the page about it first.
_LOGS = {"docs/experiments.md", "CHANGELOG.md"}
_LAST = "---\nsearch: { boost: 0.1 }\n---\n"


def site_path(path: str) -> str:
    """Where a file of the repository is in the site.

    >>> site_path("docs/data.md"), site_path("notebooks/serving.ipynb"), site_path("palate/recommender.py")
    ('data.md', 'notebooks/serving.md', 'source/palate/recommender.py.md')
    """
    if path in MOVED:
        return MOVED[path]
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    if path.startswith("notebooks/"):
        return str(Path(path).with_suffix(".md"))
    return f"source/{path}.md"


def moved_links(markdown: str, path: str) -> str:
    """The text of the repository's file ``path`` with its links as they are in the site."""
    here = posixpath.dirname(site_path(path))

    def move(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(path), link[2]))
        return link[1] + posixpath.relpath(site_path(target), here or ".")

    return _LINK.sub(move, markdown)


def source_page(path: str) -> str:
    """A page that shows a file of the repository."""
    text = (ROOT / path).read_text(encoding="utf-8")
    if path.endswith(".md"):
        return _HIDDEN + moved_links(text, path)
    language = {".py": "python", ".toml": "toml"}.get(Path(path).suffix, "text")
    return f"{_HIDDEN}# {Path(path).name}\n\n`{path}`\n\n~~~~{language}\n{text.rstrip()}\n~~~~\n"


def linked_sources(pages: dict[str, str]) -> set[str]:
    """Files of the repository that become a page only because one of ``pages`` (path -> text) links to them."""
    targets = {
        posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
        for path, text in pages.items()
        for _, target in _LINK.findall(text)
    }
    return {path for path in targets if site_path(path).startswith("source/") and (ROOT / path).is_file()}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Put the pages that are made beside those of docs/."""
    written = [*MOVED, *(path.relative_to(ROOT).as_posix() for path in sorted(ROOT.glob("docs/*.md")))]
    texts = {path: (ROOT / path).read_text(encoding="utf-8") for path in written}
    notebooks = {f"notebooks/{path.name}": notebook_page(path) for path in sorted(ROOT.glob("notebooks/*.ipynb"))}
    made = {
        site_path(path): (_LAST if path in _LOGS else "") + moved_links(text, path)
        for path, text in {**texts, **notebooks}.items()
    }
    made |= {site_path(path): source_page(path) for path in linked_sources({**texts, **notebooks})}
    for name, text in {**made, **reference_pages()}.items():
        if name in files.src_uris:
            files.remove(files.src_uris[name])
        files.append(File.generated(config, name, content=text))
    return files


def on_page_context(context: dict[str, object], page: Page, config: MkDocsConfig, nav: Navigation) -> None:
    """A page of source has no table of contents worth its width."""
    if page.file.src_uri.startswith("source/"):
        page.meta["hide"] = ["toc"]
