"""What stands around the code: workflows, the citation, forms for issues, how git treats notebooks, the addresses."""

import configparser
import importlib.util
import json
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, TOOLS

WORKFLOWS = {p.stem: p for p in (ROOT / ".github" / "workflows").glob("*.yml")}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
# Who may write what; every other job reads the repository and nothing else.
WRITES = {("book", "deploy"): {"pages", "id-token"}, ("book", "student"): {"contents"}, ("release", "publish"): {"id-token"}}


@pytest.fixture(scope="module")
def settings():
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(ROOT / "settings.ini", encoding="utf-8")
    return parser["DEFAULT"]


@pytest.fixture(params=sorted(WORKFLOWS))
def workflow(request):
    return request.param, yaml.safe_load(WORKFLOWS[request.param].read_text(encoding="utf-8"))


def test_every_action_is_pinned_by_commit_and_says_its_version():
    pins = {}
    for path in WORKFLOWS.values():
        for line in re.findall(r"uses: (.*)", path.read_text(encoding="utf-8")):
            found = re.fullmatch(r"([\w-]+/[\w-]+)@([0-9a-f]{40}) # (v\d+\.\d+\.\d+)", line)
            assert found, f"{path.name}: `uses: {line}` is not `owner/name@<commit> # v1.2.3`"
            pins.setdefault(found[1], set()).add((found[2], found[3]))
    assert {name: pin for name, pin in pins.items() if len(pin) > 1} == {}, "one action, two versions"
    assert {"actions/checkout", "pypa/gh-action-pypi-publish"} <= set(pins)


def test_jobs_have_the_least_permissions(workflow):
    name, content = workflow
    assert content["permissions"] == {}, "a job that names no permissions gets none"
    for job, what in content["jobs"].items():
        given = {scope for scope, access in what["permissions"].items() if access == "write"}
        assert given == WRITES.get((name, job), set()), f"{name}.{job}"
        assert "timeout-minutes" in what or given, f"{name}.{job} may hang for six hours"


def test_workflows_run_tasks_that_exist(workflow, sh):
    tasks = (ROOT / "tools" / "tasks.py").read_text(encoding="utf-8")
    listed = re.findall(r'"([\w-]+)"', re.search(r"tasks = \[(.*?)\]", tasks, re.DOTALL)[1])
    text = WORKFLOWS[workflow[0]].read_text(encoding="utf-8")
    asked = re.findall(r"(?:tools/tasks\.py|run: make|task:) ([a-z-]+)", text)
    assert [task for task in asked if task not in listed] == []
    assert asked or "bash .ci/run" in text


def test_only_a_tag_publishes_and_only_what_was_tried(workflow):
    name, content = workflow
    if name != "release":
        assert "pypi-publish" not in json.dumps(content)
        return
    triggers = content[True]  # YAML reads `on` as a truth value
    assert triggers["push"] == {"tags": ["v*"]} and "workflow_dispatch" in triggers
    build, publish = content["jobs"]["build"], content["jobs"]["publish"]
    assert publish["needs"] == "build" and publish["if"] == "github.ref_type == 'tag'"
    assert publish["environment"]["name"] == "pypi"
    assert not any("with" in step and {"password", "user"} & set(step["with"]) for step in publish["steps"])
    commands = [step["run"] for step in build["steps"] if "run" in step]
    assert commands == ["python tools/tasks.py dist"] and "DEEPNOTES_TAG" in build["env"]


def test_the_pythons_declared_are_those_that_are_tested():
    matrix = yaml.safe_load(WORKFLOWS["test"].read_text(encoding="utf-8"))["jobs"]["test"]["strategy"]["matrix"]["python"]
    stem = "Programming Language :: Python :: "
    declared = [c.removeprefix(stem) for c in PROJECT["classifiers"] if re.fullmatch(stem + r"3\.\d+", c)]
    assert declared == matrix and PROJECT["requires-python"] == f">={matrix[0]}"


def test_addresses_are_those_of_the_settings(settings):
    repository, book = settings["git_url"], settings["doc_host"] + settings["doc_baseurl"]
    assert PROJECT["urls"] == {"Book": book, "Source": repository, "Issues": f"{repository}/issues",
                               "Changelog": f"{repository}/blob/{settings['branch']}/CHANGELOG.md"}
    assert PROJECT["description"] == settings["description"]
    assert " ".join(PROJECT["keywords"]) == settings["keywords"]


def picture(page, heading):
    """Names and remarks of the tree that a page shows under a heading."""
    text = (ROOT / page).read_text(encoding="utf-8")
    block = re.search(rf"^## {re.escape(heading)}\n.*?^```\n(.*?)^```", text, re.M | re.S)[1]
    assert len(block.splitlines()) <= 40, "a picture fits on one screen"
    return re.findall(r"^(?:[├└]── )?([\w./]+?)/? {2,}(\S.*)$", block, re.M)


def test_the_picture_of_the_library_is_the_library_in_the_order_of_its_floors():
    shown = [name for name, _ in picture("README.md", "The house, floor by floor")]
    packages = {p.parent.name for p in (ROOT / "deepnotes").glob("*/__init__.py")}
    modules = {p.name for p in (ROOT / "deepnotes").glob("*.py")} - {"__init__.py", "_modidx.py"}
    assert sorted(shown) == sorted(packages | modules)
    spec = importlib.util.spec_from_file_location("check", ROOT / "tools" / "check.py")
    check = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(check)
    floor = {name: level for level, names in enumerate(check.FLOORS) for name in names}
    levels = [floor[name.removesuffix(".py")] for name in shown]
    assert levels == sorted(levels, reverse=True)


def test_the_picture_of_the_repository_names_its_folders():
    shown = [name for name, _ in picture("CONTRIBUTING.md", "Where things are")]
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    folders = [Path(name).parts[:-1] for name in listed]
    here = {parts[0] for parts in folders if parts}
    of_tests = {parts[1] for parts in folders if parts[:1] == ("tests",) and len(parts) > 1}
    assert sorted(shown) == sorted([*here, *of_tests])


def test_tests_mirror_the_library():
    packages = {p.parent.name for p in (ROOT / "deepnotes").glob("*/__init__.py")}
    folders = {p.parent.name for p in (ROOT / "tests" / "unit").glob("*/test_*.py")}
    assert folders == packages
    names = [p.name for p in (ROOT / "tests").rglob("test_*.py")]
    assert len(names) == len(set(names)), "tools name a file of tests without its folder"


def test_the_citation_has_what_readers_of_it_need(settings):
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    # the format's required keys: https://github.com/citation-file-format/citation-file-format, schema 1.2.0
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["cff-version"] == "1.2.0" and citation["type"] == "software"
    known = {"cff-version", "message", "type", "title", "abstract", "authors", "repository-code", "url", "license", "keywords"}
    assert set(citation) <= known
    assert all(set(author) == {"name"} for author in citation["authors"])  # an entity; a person has given-names
    assert [author["name"] for author in citation["authors"]] == [author["name"] for author in PROJECT["authors"]]
    assert citation["license"] == PROJECT["license"] and citation["keywords"] == PROJECT["keywords"]
    assert citation["repository-code"] == settings["git_url"] and citation["url"] == PROJECT["urls"]["Book"]


FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("[0-9]*.yml"))


def test_forms_for_issues_are_valid_and_ask_for_what_helps():
    """GitHub leaves out a form that it cannot read: https://docs.github.com, “Syntax for GitHub's form schema”."""
    assert len(FORMS) == 3
    names = set()
    for path in FORMS:
        form = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert set(form) == {"name", "description", "labels", "body"}
        names.add(form["name"])
        ids = [part["id"] for part in form["body"]]
        assert len(set(ids)) == len(ids) and any(part.get("validations", {}).get("required") for part in form["body"])
        for part in form["body"]:
            assert part["type"] in ("input", "textarea", "dropdown", "checkboxes") and part["attributes"]["label"]
            assert ("options" in part["attributes"]) == (part["type"] in ("dropdown", "checkboxes"))
    assert len(names) == 3


def test_the_commands_that_a_form_asks_for_work(sh):
    text = next(path for path in FORMS if "library" in path.name).read_text(encoding="utf-8")
    program = re.search(r"python -c '([^']+)'", text)[1]
    assert "python -m deepnotes.compiler" in text  # run by tests/user/test_selftest.py
    status, said = sh(TOOLS / "python", "-c", program)
    assert status == 0 and "numpy" in said


def test_nbdevs_index_of_symbols_is_neither_committed_nor_could_it_be():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    assert "deepnotes/_modidx.py" not in listed
    assert subprocess.run(["git", "check-ignore", "-q", "deepnotes/_modidx.py"], cwd=ROOT).returncode == 0


def set_up_git(clone):
    """The two commands that CONTRIBUTING gives, with the programs of the environment that runs the tests."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    commands = re.findall(r'^ *git config (\S+) "([^"]+)"$', text, re.M)
    assert [name for name, _ in commands] == ["merge.nbdev-merge.driver", "diff.notebook.textconv"]
    for name, value in commands:
        subprocess.run(["git", "config", name, value.replace(".venv/bin", str(TOOLS))], cwd=clone, check=True)
    for name, value in (("user.name", "test"), ("user.email", "test@example.org"), ("commit.gpgsign", "false")):
        subprocess.run(["git", "config", name, value], cwd=clone, check=True)


def test_notebooks_are_merged_cell_by_cell_and_compared_as_scripts(clone, sh):
    """Two people change one cell: the notebook that git leaves still opens, with both versions in it as cells."""
    set_up_git(clone)
    page = clone / "nbs" / "library" / "comparing.ipynb"

    def commit_title(title):
        book = json.loads(page.read_text(encoding="utf-8"))
        book["cells"][0]["source"] = [f"# {title}"]
        page.write_text(json.dumps(book, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        subprocess.run(["git", "commit", "-qam", title], cwd=clone, check=True)

    subprocess.run(["git", "checkout", "-q", "-b", "theirs"], cwd=clone, check=True)
    commit_title("Their title")
    subprocess.run(["git", "checkout", "-q", "main"], cwd=clone, check=True)
    commit_title("Our title")
    status, said = sh("git", "diff", "HEAD~1", "--", page, cwd=clone)
    assert status == 0 and re.search(r"^\+# # Our title$", said, re.M), said
    status, said = sh("git", "merge", "theirs", cwd=clone)
    assert status != 0 and "CONFLICT" in said
    merged = json.loads(page.read_text(encoding="utf-8"))
    sources = ["".join(cell["source"]) for cell in merged["cells"]]
    assert {"# Their title", "# Our title"} <= set(sources)
