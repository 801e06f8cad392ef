"""The API reference: one page per module of the library, and links between code and the chapters it was born in.

- For each public module or package of ``deepnotes/`` a page ``nbs/api/<module>.rst`` is written at build time (git ignores them), so a new
  module needs no edit anywhere: ``_toc.yml`` takes what is there.
- A docstring ends with ``Chapter: <title>, section <heading>``. That line becomes a link to the section, and a
  warning when the book has no such chapter or heading.
- Under each exported cell of a chapter stands which module it went to, with a link to the entry of each function
  and class; ``{born-here}`` in a chapter lists them all.
"""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.environment import BuildEnvironment
from sphinx.ext.autodoc import ClassDocumenter, FunctionDocumenter, Options
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective
from sphinx.util.nodes import make_refnode

from .figures import is_code_cell

logger = logging.getLogger(__name__)

PAGE = """\
{rule}
{title}
{rule}

.. automodule:: {title}
"""
INTERNAL = ("compiler",)  # read by maintainers, on its library pages; users never import it
OWN_NAMES = ("training.checkpoints",)  # modules within a package that users call by their own name
PROSE = ("attribute", "data", "property")
HIDDEN_COLON = "\ue03a"
CHAPTER = re.compile(r"^\s*Chapter: (?P<title>.+?)(?:, section (?P<section>.+?))?\.?\s*$")


# -- one page per module ------------------------------------------------------------------------------------------


def public_modules(library: Path) -> list[str]:
    """Modules and packages right below the library that users import; what a package is made of is mostly its own affair."""
    files = [path.stem for path in library.glob("*.py")]
    packages = [path.parent.name for path in library.glob("*/__init__.py")]
    inner = [name for name in OWN_NAMES if (library / f"{name.replace('.', '/')}.py").exists()]
    return sorted(name for name in [*files, *packages, *inner] if not name.startswith("_") and name not in INTERNAL)


def write_pages(app: Sphinx, config: Config) -> None:
    """Write what is missing, remove pages of modules that are gone (event ``config-inited``, before the contents)."""
    root = Path(app.srcdir)
    folder = root / config.deepnotes_nbs / "api"
    modules = public_modules(root / config.deepnotes_lib)
    folder.mkdir(parents=True, exist_ok=True)
    for page in folder.glob("*.rst"):
        if page.stem not in [config.deepnotes_lib, *modules]:
            page.unlink()
    front = config.deepnotes_lib  # the package itself: its docstring, and none of the names it hands on
    for module in [front, *modules]:
        title = front if module == front else f"{front}.{module}"
        text = PAGE.format(title=title, rule="=" * len(title)) + ("   :no-members:\n" if module == front else "")
        page = folder / f"{module}.rst"
        if not page.exists() or page.read_text(encoding="utf-8") != text:
            page.write_text(text, encoding="utf-8")


class KernelDocumenter(FunctionDocumenter):
    """Documents what ``numba.njit`` returns as the Python function it was made from."""

    objtype = "kernel"
    directivetype = "function"
    priority = FunctionDocumenter.priority + 10

    @classmethod
    def can_document_member(cls, member, membername, isattr, parent) -> bool:
        """Numba's dispatchers keep the function as ``py_func``."""
        return callable(member) and callable(getattr(member, "py_func", None))

    def import_object(self, raiseerror: bool = False) -> bool:
        """Import the dispatcher, then go on with its function."""
        found = super().import_object(raiseerror)
        if found:
            self.object = getattr(self.object, "py_func", self.object)
        return found


class PlainClassDocumenter(ClassDocumenter):
    """Says what a class is based on only when there is something to say."""

    objtype = "class"

    def add_directive_header(self, sig: str) -> None:
        """Leave out ``Bases: object``, and bases that are the library's own affair."""
        if all(base is object or base.__name__.startswith("_") for base in getattr(self.object, "__bases__", ())):
            self.options = Options({**self.options, "show-inheritance": None})
        super().add_directive_header(sig)


# -- from a docstring to its chapter ------------------------------------------------------------------------------


def take_chapter_line(app: Sphinx, what: str, name: str, obj: object, options, lines: list[str]) -> None:
    """Take the docstring's last line out before napoleon puts it into some section (``autodoc-process-docstring``).

    A property's docstring is prose, in which napoleon would read "The text: …" as a type before the colon; so colons are
    hidden from it.
    """
    while lines and not lines[-1].strip():
        lines.pop()
    match = CHAPTER.match(lines[-1]) if lines else None
    if match:
        lines.pop()
        app.env.temp_data.setdefault("deepnotes_chapter_lines", {})[name] = match.group(0).strip()
    if what in PROSE:
        lines[:] = [line.replace(":", HIDDEN_COLON) for line in lines]


def put_chapter_line(app: Sphinx, what: str, name: str, obj: object, options, lines: list[str]) -> None:
    """Put it back, as a link, when napoleon is done; number the docstring's footnotes for itself."""
    lines[:] = [line.replace(HIDDEN_COLON, ":") for line in lines]
    prefix = re.sub(r"\W+", "-", name)
    for number, line in enumerate(lines):
        lines[number] = re.sub(r"\[(\d+)\](_?)(?=$|\W)", rf"[#{prefix}-\1]\2", line) if _footnotes(lines) else line
    line = app.env.temp_data.get("deepnotes_chapter_lines", {}).pop(name, None)
    if line:
        lines += ["", f".. chapter-link:: {line}", ""]


def _footnotes(lines: list[str]) -> bool:
    return any(re.match(r"\s*\.\. \[(#[\w-]+|\d+)\] ", line) for line in lines)


class ChapterLink(nodes.General, nodes.Element):
    """Where the link goes; it can be made when every chapter has been read."""


class ChapterLinkDirective(SphinxDirective):
    """``.. chapter-link:: Chapter: Output units, section Softmax``, written by :func:`put_chapter_line` only."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        """Leave a placeholder with the title and the heading."""
        match = CHAPTER.match(" ".join(self.arguments[0].split()))
        node = ChapterLink(title=match["title"], section=match["section"] or "")
        self.set_source_info(node)
        _links(self.env).setdefault(self.env.docname, set()).add(match["title"])
        return [node]


def plain(text: str) -> str:
    """A heading as it is compared: without markup, typographic quotes and dashes, and repeated spaces."""
    for old, new in {"’": "'", "‘": "'", "“": '"', "”": '"', "–": "--", "—": "---", "`": "", "$": "", "*": ""}.items():
        text = text.replace(old, new)
    return " ".join(text.split())


def find_section(env: BuildEnvironment, title: str, section: str) -> tuple[str, str, list[nodes.Node]] | str:
    """Page, anchor and heading of a chapter's section.

    Parameters
    ----------
    env : BuildEnvironment
        The environment, with every chapter read.
    title, section : str
        The chapter's title and a heading in it; an empty ``section`` is the chapter as a whole.

    Returns
    -------
    (docname, anchor, heading) or str
        The place, or a sentence that says what is missing and what there is.
    """
    prefix = env.app.config.deepnotes_nbs + "/"
    chapters = {
        plain(node.astext()): docname
        for docname, node in env.titles.items()
        if docname.startswith(prefix) and env.doc2path(docname).endswith(".ipynb")
    }
    docname = chapters.get(plain(title))
    if docname is None:
        return f"the book has no chapter {title!r}; its chapters are {', '.join(sorted(chapters))}"
    if not section:
        return docname, "", []
    headings = {plain(node.astext()): node for node in env.tocs[docname].findall(nodes.reference)}
    if plain(section) not in headings:
        known = "; ".join(list(headings)[1:]) or "none"
        return f"chapter {title!r} has no section {section!r}; its sections are {known}"
    heading = headings[plain(section)]
    return docname, heading["anchorname"], heading.children


class FillChapterLinks(SphinxPostTransform):
    """Turn the placeholders into links."""

    default_priority = 8

    def run(self, **kwargs) -> None:
        """Find each section; say what is wrong when there is none."""
        for node in list(self.document.findall(ChapterLink)):
            found = find_section(self.env, node["title"], node["section"])
            if isinstance(found, str):
                logger.warning("docstring's last line: %s", found, location=node, type="deepnotes", subtype="chapter")
                paragraph = nodes.paragraph("", " ".join(filter(None, [node["title"], node["section"]])))
            else:
                docname, anchor, heading = found
                uri = self.app.builder.get_relative_uri(self.env.docname, docname) + anchor
                link = nodes.reference("", node["title"], refuri=uri, internal=True)
                if heading:
                    link += [nodes.Text(": "), *(child.deepcopy() for child in heading)]
                paragraph = nodes.paragraph("", "", nodes.Text("Derived in "), link, nodes.Text("."))
                paragraph["classes"] = ["deepnotes-chapter"]
            node.replace_self(paragraph)


def refresh_links(app: Sphinx, env: BuildEnvironment) -> list[str]:
    """Check the links of every page that leads into a chapter that was read again (event ``env-updated``)."""
    titles = {plain(env.titles[name].astext()) for name in _read(env) if name in env.titles}
    env.deepnotes_read = set()
    return sorted(page for page, wanted in _links(env).items() if titles & {plain(title) for title in wanted})


def note_read(app: Sphinx, doctree: nodes.document) -> None:
    """Remember which documents this build has read (event ``doctree-read``)."""
    _read(app.env).add(app.env.docname)


def purge(app: Sphinx, env: BuildEnvironment, docname: str) -> None:
    """Forget a page (event ``env-purge-doc``)."""
    _links(env).pop(docname, None)


def _links(env: BuildEnvironment) -> dict[str, set[str]]:
    if not hasattr(env, "deepnotes_chapter_links"):
        env.deepnotes_chapter_links = {}
    return env.deepnotes_chapter_links


def _read(env: BuildEnvironment) -> set[str]:
    if not hasattr(env, "deepnotes_read"):
        env.deepnotes_read = set()
    return env.deepnotes_read


# -- from a chapter to the reference ------------------------------------------------------------------------------


class BornHere(nodes.General, nodes.Element):
    """Where a chapter lists what it exported."""


class BornHereDirective(SphinxDirective):
    """``{born-here}``: every function and class that this chapter exports, as links."""

    def run(self) -> list[nodes.Node]:
        """Leave a placeholder."""
        node = BornHere()
        self.set_source_info(node)
        return [node]


def public_home(module: str, name: str, library: str) -> str:
    """The full name under which a public module of the library hands on ``module.name``, or ""."""
    thing = getattr(importlib.import_module(module), name, None)
    for path in public_modules(Path(importlib.import_module(library).__file__).parent):
        public = importlib.import_module(f"{library}.{path}")
        if thing is not None and name in getattr(public, "__all__", ()) and getattr(public, name, None) is thing:
            return f"{public.__name__}.{name}"
    return ""


class MarkExports(SphinxPostTransform):
    """Write under each exported cell where it went."""

    default_priority = 7  # before MyST-NB folds cells (8)

    def run(self, **kwargs) -> None:
        """Find the cells by the metadata that ``notebooks.py`` left on them."""
        everything: dict[str, list[str]] = {}
        for cell in list(self.document.findall(is_code_cell)):
            exported = cell["cell_metadata"].get("deepnotes")
            if not exported:
                continue
            module, names = exported["module"], exported["names"]
            known = everything.setdefault(module, [])
            known += [name for name in names if name not in known]
            source = next((child for child in cell.children if child.get("nb_element") == "cell_code_source"), None)
            if source is not None:
                line = nodes.paragraph(classes=["deepnotes-exported"])
                line += [nodes.Text("exported to "), self.link(module, "", cell)]
                for index, name in enumerate(names):
                    line += [nodes.Text(": " if index == 0 else ", "), self.link(module, name, cell)]
                cell.insert(cell.index(source) + 1, line)
        for node in list(self.document.findall(BornHere)):
            items = nodes.bullet_list(classes=["deepnotes-born"])
            for module, names in everything.items():
                line = nodes.paragraph("", "", self.link(module, "", node))
                for index, name in enumerate(names):
                    line += [nodes.Text(": " if index == 0 else ", "), self.link(module, name, node)]
                items += nodes.list_item("", line)
            node.replace_self(items if everything else nodes.paragraph("", "This chapter exports nothing."))

    def link(self, module: str, name: str, where: nodes.Element) -> nodes.Node:
        """A link to the entry of a name, or of the module when ``name`` is empty.

        What a private module (``deepnotes._modules``) or one inside a package (``deepnotes.autograd.tape``) keeps to
        itself has no entry; what a public one hands on has it there.
        """
        objects = self.env.get_domain("py").objects
        full = f"{module}.{name}" if name else module
        private = module.rpartition(".")[2].startswith("_") or module.count(".") > 1 or module.endswith(INTERNAL)
        if private:
            full = public_home(module, name, self.app.config.deepnotes_lib) if name else ""
        text = nodes.literal("", name or module, classes=["xref", "py"])
        entry = objects.get(full)
        if entry is None and private:
            return text
        if entry is None:
            logger.warning(
                "the API reference has no entry for %s: run nbdev_export, and check that its name is in __all__",
                full,
                location=where,
                type="deepnotes",
                subtype="export",
            )
            return text
        return make_refnode(self.app.builder, self.env.docname, entry.docname, entry.node_id, text, full)


def skip_routing(app: Sphinx, kind: str, name: str, *rest: Any) -> bool | None:
    """Whether a member is one that scikit-learn writes itself (`set_fit_request`, …), with references to its own pages."""
    return True if re.fullmatch(r"set_\w+_request", name) else None


def setup(app: Sphinx) -> None:
    """Connect this part to Sphinx."""
    app.connect("autodoc-skip-member", skip_routing)
    app.connect("config-inited", write_pages, priority=20)
    app.add_autodocumenter(KernelDocumenter)
    app.add_autodocumenter(PlainClassDocumenter, override=True)
    app.connect("autodoc-process-docstring", take_chapter_line, priority=100)  # napoleon's priority is 500
    app.connect("autodoc-process-docstring", put_chapter_line, priority=900)
    app.add_node(ChapterLink)
    app.add_node(BornHere)
    app.add_directive("chapter-link", ChapterLinkDirective)
    app.add_directive("born-here", BornHereDirective)
    app.add_post_transform(FillChapterLinks)
    app.add_post_transform(MarkExports)
    app.connect("doctree-read", note_read)
    app.connect("env-updated", refresh_links)
    app.connect("env-purge-doc", purge)
