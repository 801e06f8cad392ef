"""`make dist`: what a release consists of, built from what git holds and tried as a stranger would try it.

    python tools/release.py [--tag v1.2.3] [--untried] [folder]

The folder (dist/) gets the source distribution and the wheel that is made from it. Each check returns its complaints as
sentences that say what to do; none means it passed.
"""

import argparse
import configparser
import email
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def settings(root=ROOT):
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(root / "settings.ini", encoding="utf-8")
    return parser["DEFAULT"]


def with_whole_links(text, repository, version):
    """A README as the package index shows it: there, links into the repository and pictures need their whole address."""
    page, picture = f"{repository}/blob/v{version}/", f"{repository}/raw/v{version}/"
    text = re.sub(r"(!\[[^\]]*\]\()(?!https?:|#)", rf"\1{picture}", text)
    return re.sub(r"((?<!!)\[[^\]]*\]\()(?!https?:|#)", rf"\1{page}", text)


def copy_of_what_git_holds(target):
    """The tree without what is ignored, so that nothing of this machine gets into a release."""
    listed = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, check=True,
                            capture_output=True, text=True).stdout.split("\0")
    for name in filter(None, listed):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target / name)


def build(folder):
    """Write the source distribution and its wheel into a folder, without a network; give their paths."""
    with tempfile.TemporaryDirectory() as tree:
        copy_of_what_git_holds(Path(tree))
        readme, known = Path(tree) / "README.md", settings()
        text = with_whole_links(readme.read_text(encoding="utf-8"), known["git_url"], known["version"])
        readme.write_text(text, encoding="utf-8", newline="\n")
        # --no-isolation: with the setuptools of this environment, which pyproject.toml declares for the tests
        done = subprocess.run([sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, tree], text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode:
        sys.exit(f"{done.stdout}\nError: the build failed; its own words are above.")
    (sdist,), (wheel,) = Path(folder).glob("*.tar.gz"), Path(folder).glob("*.whl")
    return sdist, wheel


def check_tag(tag):
    version = settings()["version"]
    if tag and tag != f"v{version}":
        yield f"the tag is {tag}, but settings.ini says version {version}: run `make export` after changing it, and tag v{version}."
    if tag and f"## {version}" not in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"):
        yield f"CHANGELOG.md has no heading `## {version}`: what readers get with this release stands under “Unreleased”."


def check_wheel(wheel):
    """The wheel holds every module of the library, what editors read beside them, and nothing else."""
    library = ROOT / "deepnotes"
    expected = {p.relative_to(ROOT).as_posix() for end in ("*.py", "*.pyi", "py.typed") for p in library.rglob(end)}
    expected.discard("deepnotes/_modidx.py")  # nbdev's index of symbols, there while nbdev works
    holds = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    for name in sorted(expected - holds):
        yield f"{wheel.name} lacks {name}: look at [tool.setuptools] in pyproject.toml."
    for name in sorted(holds - expected):
        yield f"{wheel.name} holds {name}, which is none of the library's modules."


def check_metadata(wheel):
    """What the package index would refuse, or show wrongly."""
    from packaging.metadata import Metadata

    archive = zipfile.ZipFile(wheel)
    (name,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
    text = archive.read(name)
    try:
        Metadata.from_email(text, validate=True)
    except ExceptionGroup as errors:
        yield from (f"the package index would refuse {wheel.name}: {error}." for error in errors.exceptions)
    fields = email.message_from_bytes(text)
    if fields["Description-Content-Type"] != "text/markdown":
        yield "the package index would show README.md as plain text."
    for link in re.findall(r"\]\((?!https?:|#)([^)]*)\)", str(fields.get_payload())):
        yield f"README.md's link to {link} would lead nowhere on the package index."


def check_sdist(sdist):
    """From the source distribution the same wheel can be built, and its reader finds the license."""
    names = {name.partition("/")[2] for name in tarfile.open(sdist).getnames()}
    for name in ("LICENSE", "README.md", "pyproject.toml", "deepnotes/__init__.py"):
        if name not in names:
            yield f"{sdist.name} lacks {name}."
    for name in sorted(names):
        if name.startswith(("nbs/", "_build/", ".")):
            yield f"{sdist.name} holds {name}, which builds nothing."


def try_in_an_empty_environment(wheel):
    """Install the wheel with what pip finds for it today, and run the README's program; it prints what it learned."""
    (program,) = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(encoding="utf-8"), re.M | re.S)
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = Path(folder) / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
        # Without the pins of constraints.txt: who installs a release has none.
        subprocess.run([python, "-m", "pip", "install", "-q", "--disable-pip-version-check", f"{wheel}[sklearn]"], check=True)
        subprocess.run([python, "-c", program], cwd=folder, check=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "dist")
    parser.add_argument("--tag", default=os.environ.get("DEEPNOTES_TAG"), help="the tag that is to be published (or DEEPNOTES_TAG)")
    parser.add_argument("--untried", action="store_true", help="leave out the empty environment, which needs the network")
    options = parser.parse_args()
    shutil.rmtree(options.folder, ignore_errors=True)
    complaints = list(check_tag(options.tag))  # before anything is built
    if not complaints:
        sdist, wheel = build(options.folder)
        complaints = [*check_wheel(wheel), *check_metadata(wheel), *check_sdist(sdist)]
    if complaints:
        sys.exit("Error: " + "\nError: ".join(complaints))
    if not options.untried:
        try_in_an_empty_environment(wheel)
    print(f"{sdist}\n{wheel}")


if __name__ == "__main__":
    main()
