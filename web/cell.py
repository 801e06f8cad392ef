"""Runs the cells of a page inside the browser's Python (Pyodide, in a worker): output, figures and errors as in a notebook.

`worker.mjs` loads this file, gives it `post(kind, text)`, and calls `run` for each cell. Nothing here needs the book.
"""

import ast
import base64
import html
import io
import linecache
import os
import re
import sys
import time
import traceback
import types

from js import Object
from pyodide.code import eval_code_async
from pyodide.ffi import to_js

# numpy by choice: no warning that there is no compiler. The figures are drawn into text, in the book's own style.
os.environ.update(DEEPNOTES_BACKEND="numpy", MPLBACKEND="agg", MATPLOTLIBRC="/home/pyodide/matplotlibrc")
namespace = {"__name__": "__main__"}
_post = None
_quiet = False


def post(kind, data):
    """Send a piece of output to the page, unless the cell that runs is one that the page does not show."""
    if not _quiet:
        _post(kind, data)


class Stream(io.TextIOBase):
    """Standard output, sent line by line, and not more than about thirty times a second."""

    def __init__(self, kind):
        self.kind, self.held, self.sent = kind, "", 0.0

    def writable(self):
        return True

    def write(self, text):
        self.held += text
        if time.monotonic() - self.sent > 0.03 and ("\n" in text or "\r" in text):
            self.flush()
        return len(text)

    def flush(self):
        if self.held:
            held, self.held, self.sent = self.held, "", time.monotonic()
            post(self.kind, held)


# -- what a cell shows ------------------------------------------------------------------------------------------------


def show_figures(*_, **__):
    """Send every open figure as a drawing, and close it."""
    pyplot = sys.modules.get("matplotlib.pyplot")
    for number in pyplot.get_fignums() if pyplot else ():
        show_figure(pyplot.figure(number))
        pyplot.close(number)


def show_figure(figure):
    sys.stdout.flush()
    text = io.StringIO()
    figure.savefig(text, format="svg", bbox_inches="tight")
    svg = text.getvalue()
    post("svg", svg[svg.index("<svg") :])


def inline(text):
    """Markdown within a line; formulas stay as they are for the page's own typesetting."""
    parts = re.split(r"(\$[^$]+\$|`[^`]+`)", text)
    out = []
    for part in parts:
        if part.startswith("`") and len(part) > 1:
            out.append(f"<code>{html.escape(part[1:-1])}</code>")
        elif part.startswith("$") and len(part) > 1:
            out.append(rf'<span class="math">\({html.escape(part[1:-1])}\)</span>')
        else:
            part = re.sub(r"\*\*(.+?)\*\*", r"<b>\1</b>", html.escape(part))
            out.append(re.sub(r"(?<!\w)[*_](.+?)[*_](?!\w)", r"<i>\1</i>", part))
    return "".join(out)


def markdown(text):
    """As much Markdown as cells of the book make: tables and paragraphs."""
    out = []
    for block in re.split(r"\n\s*\n", text.strip()):
        lines = block.split("\n")
        if len(lines) > 1 and re.fullmatch(r"[|\s:-]+", lines[1]):
            rows = [re.split(r"(?<!\\)\|", line.strip().strip("|")) for line in lines]
            cells = [[inline(cell.strip().replace("\\|", "|")) for cell in row] for row in rows]
            head = "".join(f"<th>{cell}</th>" for cell in cells[0])
            body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in cells[2:])
            out.append(f'<table class="table"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>')
        else:
            out.append(f"<p>{inline(' '.join(lines))}</p>")
    return "".join(out)


def show(value):
    """What a notebook shows for the value of a cell's last line."""
    sys.stdout.flush()
    if value is None:
        return
    if type(value).__module__.startswith("matplotlib") and hasattr(value, "savefig"):
        return show_figure(value)
    for method, kind, change in (
        ("_repr_html_", "html", str),
        ("_repr_markdown_", "html", markdown),
        ("_repr_svg_", "svg", str),
        ("_repr_png_", "png", lambda data: data if isinstance(data, str) else base64.b64encode(data).decode()),
    ):
        made = getattr(value, method, lambda: None)() if not isinstance(value, type) else None
        if made:
            return post(kind, change(made))
    post("text", repr(value) + "\n")


def _display_module():
    """`IPython.display` in the few forms that the book uses; IPython itself would be 3 MB more to fetch."""
    module = types.ModuleType("IPython.display")

    def kind(name, method):
        def __init__(self, data=""):
            self.data = data

        return type(name, (), {"__init__": __init__, method: lambda self: self.data, "__repr__": lambda self: f"<{name}>"})

    for name, method in (("HTML", "_repr_html_"), ("Markdown", "_repr_markdown_"), ("SVG", "_repr_svg_")):
        setattr(module, name, kind(name, method))
    module.display = lambda *values, **_: [show(value) for value in values] and None
    module.clear_output = lambda *_, **__: post("clear", "")
    return module


display = _display_module()
sys.modules.setdefault("IPython", types.ModuleType("IPython"))
sys.modules["IPython"].display = display
sys.modules["IPython"].get_ipython = lambda: None  # matplotlib asks, and for the version, too
sys.modules["IPython"].version_info = (9, 0)
sys.modules["IPython.display"] = display
# the page's numbers are in the page
sys.modules["myst_nb"] = types.SimpleNamespace(glue=lambda *_, **__: None)


# -- running ----------------------------------------------------------------------------------------------------------


def describe(error):
    """The traceback from the cell on, as a notebook shows it."""
    frames = error.__traceback__
    while frames and not frames.tb_frame.f_code.co_filename.startswith("cell "):
        frames = frames.tb_next
    lines = traceback.format_exception(type(error), error, frames)
    return "".join(line for line in lines if "_pyodide/_base.py" not in line)


def missing_module(error):
    """The package whose absence is behind an error, or an empty text."""
    while error is not None:
        if isinstance(error, ModuleNotFoundError) and error.name:
            return error.name.partition(".")[0]
        error = error.__cause__ or error.__context__
    return ""


async def execute(code, name, quiet):
    """Run one piece of code; for one that the page does not show, every statement by itself, so that one does not stop the rest."""
    if not quiet:
        return await eval_code_async(code, namespace, filename=name)
    failure = None
    for node in ast.parse(code).body:
        try:
            await eval_code_async(ast.unparse(node), namespace, filename=name)
        except Exception as error:
            failure = failure or error
    if failure:
        raise failure


async def run(code, name, quiet=False):
    """Run a cell. The result says whether it ran through, and what was wrong."""
    global _quiet
    _quiet, name = quiet, f"cell {name}"
    out, err = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = Stream("text"), Stream("stderr")
    linecache.cache[name] = (len(code), None, code.splitlines(True), name)  # so that tracebacks show the lines
    result = {"ok": True}
    try:
        if "matplotlib.pyplot" in sys.modules:
            sys.modules["matplotlib.pyplot"].show = show_figures
        value = await execute(code, name, quiet)
        show_figures()
        if not quiet:
            show(value)
    except BaseException as error:  # a cell may raise anything, SystemExit and KeyboardInterrupt too
        sys.stdout.flush()
        result = {"ok": False, "kind": type(error).__name__, "message": str(error), "missing": missing_module(error),
                  "name": str(getattr(error, "name", None) or ""), "trace": describe(error)}
        if "matplotlib.pyplot" in sys.modules:
            sys.modules["matplotlib.pyplot"].close("all")
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        sys.stdout, sys.stderr, _quiet = out, err, False
    return to_js(result, dict_converter=Object.fromEntries)
