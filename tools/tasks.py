"""What `make` runs: one file, standard library only, the same on Linux, macOS and Windows.

    python tools/tasks.py env | export | update | book | web | pdf | test | test-web | test-student | test-binder
    python tools/tasks.py test-lowest | test-bare | test-older-cpu | check | serve | lab | bench | dist | lock | clean

Nothing has to be installed first. The environment is made in `.venv` (another place: VENV=…) from pyproject.toml,
held to constraints.txt (DEEPNOTES_UNPINNED=1 leaves the pins out), and made anew when a run was cut off half-way.
"""

import argparse
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = Path(os.environ.get("VENV") or ROOT / ".venv")
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
STAMP = VENV / ".deepnotes-environment"
OLDEST = (3, 11)
HTML = ROOT / "_build" / "html"
WEB = ROOT / "_build" / "web"  # the same with code that runs in the page
ABSENT = 75  # the status of a task that cannot be tried here, because what it needs from the network cannot be had


def say(text):
    print(f"── {text}", flush=True)


def stop(text, code=1):
    """End with one sentence that says what to do."""
    print(f"\nError: {text}", file=sys.stderr, flush=True)
    raise SystemExit(code)


def run(*command, **kwargs):
    """Run a command in the project's folder; its exit status is ours when it fails."""
    status = subprocess.run([str(part) for part in command], cwd=kwargs.pop("cwd", ROOT), **kwargs).returncode
    if status:
        raise SystemExit(status)


# ── The environment ──────────────────────────────────────────────────────────────────────────────────────────────────


def version_of(executable):
    """(major, minor) of a Python, or None where it does not start (a version manager's empty shim, say)."""
    try:
        out = subprocess.run([executable, "-c", "import sys; print(*sys.version_info[:2])"], capture_output=True,
                             text=True, timeout=60)
    except OSError:
        return None
    return tuple(map(int, out.stdout.split())) if out.returncode == 0 else None


def find_python():
    """The Python that the environment is made with: this one if it is new enough, else the newest on the PATH."""
    if sys.version_info[:2] >= OLDEST:
        return sys.executable
    for minor in range(14, OLDEST[1] - 1, -1):
        found = shutil.which(f"python3.{minor}")
        if found and version_of(found) == (3, minor):
            return found
    stop("Deep Notes needs Python {}.{} or newer and found only {}.{}: install one (python.org, your package manager) "
         "and name it, as in `make book PYTHON=/path/to/python3`.".format(*OLDEST, *sys.version_info[:2]))


def wanted_environment():
    """A fingerprint of all that decides what is installed. Editing code does not change it, editing pins does."""
    h = hashlib.sha256()
    for name in ("pyproject.toml", "constraints.txt"):
        h.update((ROOT / name).read_bytes())
    h.update(repr((str(ROOT), os.environ.get("DEEPNOTES_UNPINNED"), os.environ.get("DEEPNOTES_EXTRAS"))).encode())
    return h.hexdigest()


def pip_install(*what, python=None):
    pins = [] if os.environ.get("DEEPNOTES_UNPINNED") else ["-c", ROOT / "constraints.txt"]
    command = [python or BIN / "python", "-m", "pip", "install", "--disable-pip-version-check", "-q", *pins, *what]
    if subprocess.run([str(part) for part in command], cwd=ROOT).returncode:
        stop(f"pip could not install {' '.join(map(str, what))} (its own words are above). If the network is down, "
             "run the same command again when it is back: an environment that is half-made is never used.")


def environment(extras="dev"):
    """Make the environment, or find it already made."""
    extras = os.environ.get("DEEPNOTES_EXTRAS") or extras
    want = wanted_environment()
    if STAMP.exists() and version_of(str(BIN / "python")) and STAMP.read_text() == want:
        return
    if VENV.exists() and not (VENV / "pyvenv.cfg").exists() and any(VENV.iterdir()):
        stop(f"{VENV} exists and is not a virtual environment: move it away, or name another place with VENV=….")
    python = find_python()
    if VENV.exists() and (not STAMP.exists() or not version_of(str(BIN / "python"))):
        if ROOT not in VENV.parents:  # somebody else's: named by VENV=…
            stop(f"the environment in {VENV} was not made by `make`, or is broken: make it anew, or name another place with VENV=….")
        say(f"the environment in {VENV} is half-made or broken: making it anew")
        shutil.rmtree(VENV)
    if not VENV.exists():
        say(f"making the environment in {VENV} (once, one to three minutes)")
        made = subprocess.run([python, "-m", "venv", str(VENV)], capture_output=True, text=True)
        if made.returncode:
            print(made.stdout + made.stderr, file=sys.stderr)
            shutil.rmtree(VENV, ignore_errors=True)
            stop("this Python cannot make virtual environments: install its venv module "
                 "(on Debian and Ubuntu: apt install python3-venv) and run the same command again.")
    else:
        say("the pins changed: bringing the environment up to date")
        STAMP.unlink()
    pip_install("-e", f".[{extras}]")
    STAMP.write_text(want)  # last: an environment without it is not trusted


# ── Chapters → library ───────────────────────────────────────────────────────────────────────────────────────────────


def export():
    """Write deepnotes/ from the chapters, only where a file's content changes."""
    run(BIN / "python", ROOT / "tools" / "check.py", "--write")


# ── Tests ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def jobs():
    """How many chapters or test processes run at a time: DEEPNOTES_JOBS, else one per core, at most eight.

    Each takes up to 700 MB.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(os.environ.get("DEEPNOTES_JOBS") or min(cores, 8)))


def fingerprint(*paths):
    h = hashlib.sha256()
    for path in paths:
        h.update((path.parent.name + "/" + path.name).encode() + path.read_bytes())
    return h.hexdigest()


def inside_nbs(path):
    """A chapter's or library page's path within nbs/, its name in ledgers and messages."""
    return path.relative_to(ROOT / "nbs").as_posix()


def chapters():
    """For each chapter a key of all that decides whether its cells run: itself, the library, the pins, Python, the backend."""
    library = sorted((ROOT / "deepnotes").rglob("*.py"))
    around = sys.version.split()[0] + os.environ.get("DEEPNOTES_BACKEND", "")
    found = sorted(p for p in (ROOT / "nbs").rglob("*.ipynb") if not any(part[0] in "_." for part in inside_nbs(p).split("/")))
    return {p: fingerprint(p, *library, ROOT / "constraints.txt") + around for p in found}


def ledger():
    return ROOT / ".cache" / "chapters-passed.json"


def passed_chapters():
    return json.loads(ledger().read_text()) if ledger().exists() else {}


def remember(passed):
    """Write down which chapters ran through, by name and key."""
    ledger().parent.mkdir(exist_ok=True)
    part = ledger().with_suffix(".part")
    part.write_text(json.dumps(passed, indent=1))
    part.replace(ledger())


def test_chapters(everything):
    """Run every cell of every chapter that changed, or whose library changed, since it last passed here or in the book.

    As many at a time as there are cores; those that read the clock come last, one by one, as they measure.
    """
    keys = chapters()
    passed = {} if everything else {n: key for p, key in keys.items() if passed_chapters().get(n := inside_nbs(p)) == key}
    todo = [p for p in keys if inside_nbs(p) not in passed]
    say(f"nbdev_test: {len(todo)} chapters to run, {len(passed)} unchanged since every cell of them last ran"
        + ("" if everything else " (`make test ALL=1` runs them all)"))
    failed = []

    def run_one(path):
        command = [str(BIN / "nbdev_test"), "--path", str(path), "--n_workers", "0", "--timing"]
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        return path, done.returncode, done.stdout

    def note(path, status, output):
        sys.stdout.buffer.write(output)
        sys.stdout.flush()
        if status:
            failed.append(inside_nbs(path))
        else:
            passed[inside_nbs(path)] = keys[path]
            remember(passed)

    measuring = [p for p in todo if re.search(rb"perf_counter|timeit", p.read_bytes())]
    with ThreadPoolExecutor(jobs()) as pool:
        others = [pool.submit(run_one, p) for p in todo if p not in measuring]
        try:
            for done in as_completed(others):
                note(*done.result())
        finally:
            pool.shutdown(cancel_futures=True)  # Ctrl-C starts no further ones
    for path in measuring:
        note(*run_one(path))
    if failed:
        stop(f"these chapters do not run: {', '.join(sorted(failed))} (the failing cell and its traceback are above).")


def test(arguments):
    test_chapters(everything=bool(os.environ.get("ALL")))
    say("pytest")
    # Whoever names tests or options gets pytest as it is; the whole suite runs on all cores, each file in one process,
    # files in alphabetical order: by number of tests, the few that build books would come last and alone.
    # `--cov` counts the lines of the library that the whole suite runs; it is slower then, as Python traces itself.
    counted = ["--cov=deepnotes", "--cov-report=term:skip-covered"] if arguments == ["--cov"] else []
    whole = not arguments or bool(counted)
    spread = ["-n", str(jobs()), "--dist", "loadfile", "--no-loadscope-reorder"] if whole and jobs() > 1 else []
    slowest = ["--durations=20", "--durations-min=1"] if whole else []
    run(BIN / "python", "-m", "pytest", *spread, *slowest, *(counted or arguments))


# Tests of the book and the tool-chain, which need what only developers install.
AROUND = ("book", "tools")
# What a library of numpy alone has to do; the rest of the tests compare with what is not there.
BARE = ("user", "unit/kernels/test_kernels.py", "unit/autograd/test_autograd.py", "unit/test_layers.py", "unit/test_optimizers.py")


def lowest():
    """Each package that the library, its data sets and its tests need, at the lowest version that pyproject.toml declares."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    wanted = text[text.index("\ndependencies = ["):text.index("\ndev = [")]
    return [f"{name}=={version}" for name, version in re.findall(r'^(?:\s*|sklearn = \[)"([\w-]+)>=([\w.]+)', wanted, re.M)]


def pinned(*names):
    """These packages as constraints.txt has them."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line.partition("==")[0] in names]


def elsewhere(name, python, packages):
    """The Python of an environment beside the usual one, with nothing but these packages; made once."""
    folder = ROOT / ".cache" / f"{name}-environment"
    inside = folder / BIN.name / ("python.exe" if os.name == "nt" else "python")
    stamp, want = folder / STAMP.name, " ".join([str(python), *packages])
    if not (stamp.exists() and stamp.read_text() == want and version_of(str(inside))):
        say(f"making an environment with {', '.join(packages)}")
        shutil.rmtree(folder, ignore_errors=True)
        run(python, "-m", "venv", folder)
        run(inside, "-m", "pip", "install", "--disable-pip-version-check", "-q", *packages)
        stamp.write_text(want)
    return inside


def test_lowest(arguments):
    """The library's tests with the lowest versions that it declares; these have wheels for the lowest Python, too."""
    name = "python{}.{}".format(*OLDEST)
    python = sys.executable if sys.version_info[:2] == OLDEST else shutil.which(name)
    if not python:
        stop(f"the lowest versions are tried with the lowest Python: install {name}.")
    inside = elsewhere("lowest", python, lowest())
    around = [f"--ignore={ROOT / 'tests' / name}" for name in AROUND]
    run(inside, "-m", "pytest", *around, *arguments, env={**os.environ, "PYTHONPATH": str(ROOT)})


def test_bare(arguments):
    """Programs of users, and the tests of what they use, where nothing can be compiled: no numba, no llvmlite, no scipy,
    no matplotlib, no safetensors, no scikit-learn."""
    inside = elsewhere("bare", find_python(), pinned("numpy", "tqdm", "pytest", "hypothesis", "mpmath"))
    named = any((ROOT / a.partition("::")[0]).exists() for a in arguments)
    files = [] if named else [ROOT / "tests" / name for name in BARE]
    # The one warning that numba is missing has tests of its own; here it is chosen.
    run(inside, "-m", "pytest", *files, *arguments, env={**os.environ, "PYTHONPATH": str(ROOT), "DEEPNOTES_BACKEND": "numpy"})


NUMERIC = ("unit/kernels/test_kernels.py", "book/test_kernels_chapter.py", "unit/autograd/test_autograd.py", "unit/test_outputs.py")


def test_older_cpu(arguments):
    """The numeric tests as on an older processor: numpy without the instructions that it found, OpenBLAS for another core."""
    asked = "import numpy; print(*numpy.show_config(mode='dicts').get('SIMD Extensions', {}).get('found', []))"
    found = subprocess.run([str(BIN / "python"), "-c", asked], capture_output=True, text=True, check=True).stdout.strip()
    core = "Nehalem" if platform.machine().lower() in ("x86_64", "amd64") else "ARMV8"
    say(f"pytest with NPY_DISABLE_CPU_FEATURES={found!r} OPENBLAS_CORETYPE={core}")
    older = {**os.environ, "NPY_DISABLE_CPU_FEATURES": found, "OPENBLAS_CORETYPE": core, "OPENBLAS_NUM_THREADS": "1"}
    files = [ROOT / "tests" / name for name in NUMERIC]
    run(BIN / "python", "-m", "pytest", "-n", str(jobs()), "--dist", "loadfile", *files, *arguments, env=older)


# ── The book ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def book_inputs():
    """Every file that the book is made from, in a fixed order."""
    folders = ("nbs", "deepnotes", "_ext", "_static", "binder", "benchmarks/results")
    files = [ROOT / n for n in ("_config.yml", "_toc.yml", "references.bib", "settings.ini", "constraints.txt")]
    for folder in folders:
        files += sorted(p for p in (ROOT / folder).rglob("*") if p.is_file() and p.suffix not in (".pyc", ".rst"))
    return [p for p in files if ".ipynb_checkpoints" not in p.parts]


def book():
    built = ROOT / "_build" / ".built-from"
    key = fingerprint(*book_inputs()) + sys.version.split()[0] + os.environ.get("DEEPNOTES_BACKEND", "")
    if (HTML / "index.html").exists() and built.exists() and built.read_text() == key:
        say("nothing changed since the book was built")
    else:
        say("building the book")
        built.unlink(missing_ok=True)
        before = chapters()
        run(BIN / "jupyter-book", "build", ".", "-W", "-n", "--keep-going")
        built.write_text(key)  # last: a build that failed is done again
        remember_what_the_book_ran(before)
    say(f"the book is at {HTML / 'index.html'} (open it in a browser, or run `make serve`)")


def remember_what_the_book_ran(before):
    """`make test` need not run a chapter again that this build ran, cell for cell, as it stands now.

    Chapters that the build replayed from its cache do not count: they may have run with other pins. Nor does one with
    cells that only the book would skip, or let fail.
    """
    names = (ROOT / "_build" / ".chapters-run").read_text(encoding="utf-8").split()
    ran = {ROOT / f"{name}.ipynb" for name in names}
    same = {p: key for p, key in chapters().items() if p in ran and before.get(p) == key}
    whole = {inside_nbs(p): key for p, key in same.items() if not re.search(rb"raises-exception|skip-execution", p.read_bytes())}
    remember({**passed_chapters(), **whole})


def web():
    """The full site: a copy of the built book, in which the pages' code runs. It is put in place when it is whole."""
    part, wheels = WEB.with_name("web.part"), ROOT / ".cache" / "wheel"
    for folder in (part, wheels):
        shutil.rmtree(folder, ignore_errors=True)
    shutil.rmtree(ROOT / "build", ignore_errors=True)  # setuptools packs modules that an earlier build left there
    run(BIN / "python", "-m", "pip", "wheel", "-q", "--disable-pip-version-check", "--no-deps", "-w", wheels, ROOT)
    shutil.copytree(HTML, part)
    command = [BIN / "python", ROOT / "tools" / "web.py", part, next(wheels.glob("*.whl"))]
    if os.environ.get("DEEPNOTES_LITE") != "0":
        packages = json.loads((ROOT / "web" / "files.json").read_text(encoding="utf-8"))["lite"]
        try:  # alone: it packs every extension of JupyterLab that it finds beside it
            lite = elsewhere("lite", BIN / "python", packages)
        except SystemExit:
            stop("JupyterLite's packages cannot be had (pip's own words are above): DEEPNOTES_LITE=0 makes the site without it.", ABSENT)
        command.append(lite.with_name("jupyter-lite"))
    run(*command)
    shutil.rmtree(WEB, ignore_errors=True)
    part.rename(WEB)
    say(f"the full site is in {WEB} (`make serve` shows it; browsers run no code in pages opened as files)")


def find_browser():
    """Chromium's program: DEEPNOTES_CHROMIUM, one on the PATH, or what Playwright fetches for itself (None)."""
    found = os.environ.get("DEEPNOTES_CHROMIUM") or next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"))), None)
    if found:
        return found
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    if shutil.which("apt-get") and hasattr(os, "geteuid") and os.geteuid() == 0:
        say("no Chromium here: installing it")
        attempt("apt-get", "update", "-q", env=quiet)
        attempt("apt-get", "install", "-qy", "--no-install-recommends", "chromium", env=quiet)
        if shutil.which("chromium"):
            return shutil.which("chromium")
    if not attempt(BIN / "python", "-m", "playwright", "install", "chromium"):
        stop("there is no Chromium, and none could be installed: install it (on Debian and Ubuntu: apt install chromium), or name one "
             "with DEEPNOTES_CHROMIUM=….", ABSENT)
    return None


def attempt(*command, minutes=5, **kwargs):
    """Run a command that may fail, or wait for a network that is not there; whether it went well."""
    try:
        return subprocess.run([str(part) for part in command], check=False, timeout=60 * minutes, **kwargs).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


STARTS = ("from playwright.sync_api import sync_playwright as s; import os\n"
          "with s() as p: p.chromium.launch(executable_path=os.environ.get('DEEPNOTES_CHROMIUM'), args=['--no-sandbox']).close()")


def bring_browser():
    """The built book is there, and so is what opens it: Playwright, and a Chromium that starts."""
    if not (HTML / "index.html").exists():
        stop("there is no built book yet: run `make book` first.")
    pip_install("-e", ".[web]")
    browser = find_browser()
    if browser:
        os.environ["DEEPNOTES_CHROMIUM"] = browser
    if not attempt(BIN / "python", "-c", STARTS):
        stop("Chromium is here and does not start (its own words are above): install it anew, or name another with "
             "DEEPNOTES_CHROMIUM=….", ABSENT)


def pdf(arguments):
    """Print the built book: `_build/html/pdf` gets one PDF per page of the chapters and one of them all, and the pages offer them."""
    bring_browser()
    env = {**os.environ, "PYTHONPATH": str(ROOT / "_ext")}
    start = "import sys; from deepnotes_ext.paper import main; sys.exit(main(sys.argv[1:]))"
    run(BIN / "python", "-c", start, HTML, *arguments, env=env)


def test_web(arguments):
    """The built book in a real browser: every page judged, every interactive figure driven, and on the full site the cells run.

    With `--cells` each figure is driven once, and no page is judged; with `--measure` too, CONTRIBUTING.md says what a first run costs.
    """
    bring_browser()
    tests, pytest = ROOT / "tests" / "web", [BIN / "python", "-m", "pytest", "-q", "-p", "no:cacheprovider", "--durations=20"]
    if "--cells" in arguments:
        os.environ |= {"DEEPNOTES_TIMES": "1"} | ({"DEEPNOTES_MEASURE": "1"} if "--measure" in arguments else {})
        spread = ["-n", "2"] if jobs() > 1 and "--measure" not in arguments else []
        return run(*pytest, *spread, *(tests / name for name in ("run_cells.py", "run_lite.py", "drive_figures.py")))
    run(*pytest, tests / "drive_figures.py", tests / "print_pages.py")
    run(BIN / "python", tests / "audit.py", HTML, *arguments)
    if WEB.exists():
        run(*pytest, tests / "run_cells.py", tests / "run_lite.py")
    else:
        say("cells that run in the page were not tried: they are in the site that `make web` makes")


def serve(port):
    if not (HTML / "index.html").exists():
        stop("there is no built book yet: run `make book` first.")
    import functools
    import http.server

    site = WEB if WEB.exists() and (WEB / "index.html").stat().st_mtime >= (HTML / "index.html").stat().st_mtime else HTML
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(site))
    try:
        server = http.server.ThreadingHTTPServer(("127.0.0.1", port), handler)
    except OSError as error:
        stop(f"port {port} is not free ({error}): choose another with `make serve PORT={port + 1}`.")
    say(f"http://127.0.0.1:{server.server_port}/  (Ctrl-C ends it)")
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        say("ended")


BINDER = ("02_backprop", "05_initialization", "08_training")  # what `make test-binder` runs


def student(names):
    """Run the student edition in an environment that has what Colab has, and what its first cells install."""
    colab = pinned("numpy", "scipy", "scikit-learn", "matplotlib", "numba", "ipykernel", "fastcore")
    python = elsewhere("student", BIN / "python", colab)
    pip_install(ROOT, python=python)
    pip_install("--force-reinstall", "--no-deps", ROOT, python=python)  # the version's number stays while its code changes
    run(BIN / "python", ROOT / "tools" / "student.py", python.parent.parent, *names)


def binder(names):
    """Three chapters of the student edition (or the named ones) as Binder runs them: an empty environment, and what the branch's list
    says, with this library in place of the published one."""
    listed = HTML / "student" / "binder" / "requirements.txt"
    if not listed.exists():
        stop("there is no student edition yet: run `make book` first.")
    needs = [line for line in listed.read_text(encoding="utf-8").splitlines() if not line.startswith("deepnotes")]
    python = elsewhere("binder", BIN / "python", needs)
    run(python, "-m", "pip", "install", "--disable-pip-version-check", "-q", "--force-reinstall", "--no-deps", ROOT)
    run(python, "-m", "pip", "check")  # the list brings all that the library and its notebooks need
    run(BIN / "python", ROOT / "tools" / "student.py", python.parent.parent, *names or BINDER)


def lab(arguments):
    """JupyterLab on the student edition; SOURCE=1, or no built book: on the chapters' sources."""
    edition = HTML / "student"
    if os.environ.get("SOURCE"):
        say("the chapters' sources; the edition to read and work in opens without SOURCE=1")
    elif not edition.exists():
        say("the edition to read and work in is written by `make book`; until then, the chapters' sources")
    else:
        say("a copy of each chapter to work in, in work/ (what you change there stays; SOURCE=1 opens the sources instead)")
        work = ROOT / "work"
        work.mkdir(exist_ok=True)
        for path in sorted(edition.glob("*.ipynb")):
            if not (work / path.name).exists():
                shutil.copy(path, work)
        return run(BIN / "jupyter", "lab", work, *arguments)
    run(BIN / "jupyter", "lab", "nbs", *arguments)


# ── Around it ────────────────────────────────────────────────────────────────────────────────────────────────────────


def lock():
    """Write constraints.txt anew from what pip resolves today without pins."""
    os.environ["DEEPNOTES_UNPINNED"] = "1"
    global VENV, BIN, STAMP
    VENV = ROOT / ".cache" / "lock-environment"
    BIN, STAMP = VENV / BIN.name, VENV / STAMP.name
    shutil.rmtree(VENV, ignore_errors=True)
    environment()
    frozen = subprocess.run([str(BIN / "python"), "-m", "pip", "freeze", "--exclude-editable"], check=True,
                            capture_output=True, text=True).stdout
    head = (ROOT / "constraints.txt").read_text().split("\n\n")[0]
    (ROOT / "constraints.txt").write_text(head + "\n\n" + "".join(sorted(frozen.splitlines(True), key=str.lower)))
    pin_binder(frozen)
    shutil.rmtree(VENV)
    say("constraints.txt and binder/requirements.txt are written: run `make test book test-binder` and commit them")


def pin_binder(frozen):
    """Binder's list in the versions that pip resolved."""
    pins = {line.partition("==")[0].lower(): line for line in frozen.splitlines()}
    path = ROOT / "binder" / "requirements.txt"
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("".join(f"{pins.get(line.partition('==')[0], line)}\n" for line in lines), encoding="utf-8")


def clean():
    for name in ("_build", "build", "dist", ".cache", "deepnotes.egg-info", ".pytest_cache", ".ruff_cache"):
        shutil.rmtree(ROOT / name, ignore_errors=True)


def main():  # noqa: C901  a task after the other, each of one or two lines
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    tasks = ["env", "export", "update", "book", "web", "pdf", "test", "test-web", "test-student", "test-binder", "test-lowest",
             "test-bare", "test-older-cpu", "check", "serve", "lab", "bench", "dist", "lock", "clean"]
    parser.add_argument("task", choices=tasks)
    parser.add_argument("--port", type=int, default=8000)
    options, rest = parser.parse_known_args()  # what is left goes to pytest, JupyterLab or the benchmarks
    task = options.task
    if task == "serve":
        return serve(options.port)
    if task == "clean":
        return clean()
    if task == "lock":
        return lock()
    if task in ("test-lowest", "test-bare"):
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        return {"test-lowest": test_lowest, "test-bare": test_bare}[task](rest)
    environment()
    # The networks of the book are small: one BLAS thread trains them faster than several that wait for each other,
    # and sums in one order, so that numbers come out the same on every run. Benchmarks set their own threads.
    if task in ("book", "web", "test"):
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if task == "export":
        export()
    elif task == "book":
        export()
        book()
    elif task == "web":
        export()
        book()
        web()
    elif task == "pdf":
        pdf(rest)
    elif task == "test":
        test(rest)
    elif task == "test-older-cpu":
        test_older_cpu(rest)
    elif task == "check":
        run(BIN / "python", ROOT / "tools" / "check.py")
        run(BIN / "python", ROOT / "tools" / "typed.py")
    elif task == "update":
        run(BIN / "python", ROOT / "tools" / "check.py", "--update", *rest)
    elif task == "lab":
        lab(rest)
    elif task == "test-student":
        student(rest)
    elif task == "test-binder":
        binder(rest)
    elif task == "test-web":
        test_web(rest)
    elif task == "bench":
        pip_install("-e", ".[bench]")
        run(BIN / "python", "-m", "benchmarks", *rest)
    elif task == "dist":
        run(BIN / "python", ROOT / "tools" / "release.py", *rest)


if __name__ == "__main__":
    main()
