"""``settings.ini`` is the one place for the repository's address, its branch and the version.

nbdev, the package and this book all read it. Here it becomes the theme's repository link, the Binder and Colab
buttons, and Sphinx's ``version`` and ``release``: moving the repository is a change of one line.
"""

from __future__ import annotations

from configparser import ConfigParser
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.errors import ConfigError

REQUIRED = ("git_url", "branch", "version", "lib_path", "nbs_path")


def read_settings(root: Path) -> dict[str, str]:
    """Read the ``[DEFAULT]`` section of ``root/settings.ini``.

    Parameters
    ----------
    root : Path
        Directory that holds ``settings.ini``: the root of the repository.

    Returns
    -------
    dict of str
        Every key of the section, with surrounding white space removed.

    Raises
    ------
    ConfigError
        If the file is missing or lacks a key the book needs; the message names the key.
    """
    path = Path(root) / "settings.ini"
    parser = ConfigParser(interpolation=None, delimiters=("=",))
    if not parser.read(path, encoding="utf-8"):
        raise ConfigError(f"{path} is missing: build the book from the root of the repository")
    values = {key: value.strip() for key, value in parser.defaults().items()}
    missing = [key for key in REQUIRED if not values.get(key)]
    if missing:
        raise ConfigError(f"{path} does not set {', '.join(missing)}")
    values["git_url"] = values["git_url"].rstrip("/")
    return values


def apply_settings(app: Sphinx, config: Config) -> None:
    """Write what ``settings.ini`` says into Sphinx's configuration (event ``config-inited``)."""
    values = read_settings(Path(app.srcdir))
    config.version = config.release = values["version"]
    config.html_baseurl = (values.get("doc_host", "") + values.get("doc_baseurl", "")).rstrip("/") + "/"
    options = config.html_theme_options
    options["repository_url"] = values["git_url"]
    options["repository_branch"] = values["branch"]
    config.html_search_scorer = str(Path(__file__).with_name("search_scorer.js"))  # chapters before API entries
    config.deepnotes_lib = values["lib_path"]
    config.deepnotes_nbs = values["nbs_path"]


def setup(app: Sphinx) -> None:
    """Connect this part to Sphinx."""
    # Jupyter Book sets this for sphinx_comments, which the book does without: it would load scripts from a CDN.
    app.add_config_value("comments_config", {}, "env")
    app.add_config_value("deepnotes_lib", "deepnotes", "env", [str])
    app.add_config_value("deepnotes_nbs", "nbs", "env", [str])
    app.connect("config-inited", apply_settings, priority=10)
