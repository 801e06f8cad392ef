"""The cache of machine code runs what it finds, so it must find only what this user has put there under this name.

The entries here are plain bytes: what is trusted does not depend on what it is.
"""

import contextlib
import json
import os
import pickle
import shutil
import socket
import stat
import time

import pytest

from deepnotes.compiler import cache

STRANGER = 65534


@pytest.fixture
def folder(tmp_path, monkeypatch):
    "A cache folder of our own, with two entries, `one` and `two`."
    path = tmp_path / "cache"
    monkeypatch.setenv("DEEPNOTES_CACHE_DIR", str(path))
    assert [made("one"), made("two")] == ["anew", "anew"] and [made("one"), made("two")] == ["found", "found"]
    return path


def made(key, content=None, during=None):
    "Whether the cache had what it should have for a key, or made it anew. Fails if it gives anything else."
    content, fresh = content or f"what {key} is".encode(), []

    def make():
        fresh.append(1)
        if during is not None:
            during()
        return content

    assert cache.kept(key, make, lambda found: found) == content
    return "anew" if fresh else "found"


def entries(folder):
    "The files of `one` and `two`, in this order."
    found = {}
    for path in folder.iterdir():
        found[path.read_bytes()[32:]] = path
    return found[b"what one is"], found[b"what two is"]


def give_away(path, monkeypatch):
    "Let a file or folder belong to another user: really so where we may, else as the system would tell it."
    if os.geteuid() == 0:
        os.chown(path, STRANGER, -1, follow_symlinks=False)
        return
    inode, fstat = os.stat(path).st_ino, os.fstat

    def told(handle):
        status = fstat(handle)
        return os.stat_result((*status[:4], STRANGER, *status[5:])) if status.st_ino == inode else status

    monkeypatch.setattr(os, "fstat", told)


# The folder

def test_a_new_folder_and_its_files_are_for_the_owner_alone(folder):
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o770, 0o702])
def test_a_folder_that_others_may_write_to_is_left_alone(folder, mode):
    folder.chmod(mode)
    before = sorted(folder.iterdir())
    assert made("one") == "anew" and made("three") == "anew"
    assert sorted(folder.iterdir()) == before


def test_a_folder_of_another_user_is_left_alone(folder, monkeypatch):
    give_away(folder, monkeypatch)
    before = sorted(folder.iterdir())
    assert made("one") == "anew" and made("three") == "anew"
    assert sorted(folder.iterdir()) == before


def test_a_link_in_the_place_of_the_folder_is_not_followed(folder):
    folder.rename(folder.with_name("real"))
    folder.symlink_to("real", target_is_directory=True)
    assert made("one") == "anew"


def test_below_a_strangers_folder_his_swaps_lead_nowhere(tmp_path, monkeypatch):
    "He owns a folder above the cache and exchanges what is in it for a link to his own folder, even while we compile."
    theirs, bait = tmp_path / "shared", tmp_path / "bait"
    (bait / "cache").mkdir(parents=True)
    (theirs / "inner").mkdir(parents=True)
    monkeypatch.setenv("DEEPNOTES_CACHE_DIR", str(theirs / "inner" / "cache"))
    assert made("one") == "anew"
    own = theirs / "inner" / "cache"
    (name,) = [path.name for path in own.iterdir()]
    (bait / "cache" / name).write_bytes(cache.sealed(name, b"his code"))       # he knows the name, and how to seal

    def swap():
        (theirs / "inner").rename(theirs / "away")
        (theirs / "inner").symlink_to(bait, target_is_directory=True)

    assert made("two", during=swap) == "anew"
    assert [path.name for path in (bait / "cache").iterdir()] == [name]         # ours went where it was opened
    assert len(list((theirs / "away" / "cache").iterdir())) == 2
    give_away(bait / "cache", monkeypatch)
    give_away(bait / "cache" / name, monkeypatch)
    assert made("one") == "anew"


@pytest.mark.parametrize("settings, expected", [
    ({"DEEPNOTES_CACHE_DIR": "here"}, "{home}/.cache/deepnotes/kernels"),
    ({"XDG_CACHE_HOME": "here"}, "{home}/.cache/deepnotes/kernels"),
    ({"DEEPNOTES_CACHE_DIR": "here", "XDG_CACHE_HOME": "{home}/xdg"}, "{home}/xdg/deepnotes/kernels"),
    ({"HOME": "here"}, None), ({"HOME": "~"}, None), ({"XDG_CACHE_HOME": ".", "HOME": "."}, None)])
def test_relative_paths_are_ignored(tmp_path, monkeypatch, settings, expected):
    monkeypatch.chdir(tmp_path)
    home = tmp_path / "home"
    home.mkdir()
    for name in ("DEEPNOTES_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(home))
    for name, value in settings.items():
        monkeypatch.setenv(name, value.format(home=home))
    assert cache.cache_folder() == (expected and expected.format(home=home))
    assert made("one") == "anew" and made("one") == ("found" if expected else "anew")
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


# Entries

def test_an_entry_counts_only_under_its_own_name(folder):
    one, two = entries(folder)
    one.rename(folder / "aside")
    two.rename(one)
    (folder / "aside").rename(two)
    assert made("one") == "anew" and made("two") == "anew"


@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: b"", lambda data: data + b"x", lambda data: data[:20],
                                    lambda data: data[:40] + b"X" + data[41:]])
def test_a_damaged_entry_is_made_anew_and_mended(folder, change):
    one, _ = entries(folder)
    one.write_bytes(change(one.read_bytes()))
    assert made("one") == "anew" and made("one") == "found"


def test_an_entry_of_another_user_is_not_read(folder, monkeypatch):
    "He wrote it while the folder was open to all; it has been closed since."
    one, _ = entries(folder)
    give_away(one, monkeypatch)
    assert made("one") == "anew"


@pytest.mark.parametrize("mode", [0o666, 0o620, 0o602])
def test_an_entry_that_others_may_write_to_is_not_read(folder, mode):
    one, _ = entries(folder)
    one.chmod(mode)
    assert made("one") == "anew"


def pipe(path):
    os.mkfifo(path)


def link_to_device(path):
    path.symlink_to("/dev/zero")


def device(path):
    if os.geteuid() == 0:
        with contextlib.suppress(PermissionError):                              # some containers make no devices
            os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 5))
            return
    link_to_device(path)


def link_to_itself(path):
    path.symlink_to(path)


def listening(path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(path))                                      # a socket's path must be short


def link_to_entry(path):
    (path.parent / "aside").write_bytes(cache.sealed(path.name, b"planted"))
    path.symlink_to("aside")


@pytest.mark.parametrize("thing", [pipe, device, link_to_device, link_to_itself, listening, link_to_entry, os.mkdir])
def test_what_is_no_file_is_refused_without_waiting(folder, monkeypatch, thing):
    one, _ = entries(folder)
    one.unlink()
    monkeypatch.chdir(folder)
    thing(one)
    assert made("one") == "anew"
    assert made("one") == ("anew" if thing is os.mkdir else "found")            # a folder cannot be written over


def test_an_enormous_entry_is_not_read(folder, monkeypatch):
    one, _ = entries(folder)
    os.truncate(one, cache.LARGEST + 1)
    assert made("one") == "anew"


def test_no_entry_is_unpickled(folder, tmp_path):
    class Attack:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    one, _ = entries(folder)
    one.write_bytes(cache.sealed(one.name, json.dumps([None, []]).encode() + b"\n" + pickle.dumps(Attack())))
    assert cache.kept("one", lambda: b"made", lambda found: found if found == b"made" else cache.load(found)) == b"made"
    assert not (tmp_path / "ran").exists()


# Whatever is wrong with the cache, the result is there

def test_a_folder_that_vanishes_meanwhile(folder):
    assert made("three", during=lambda: shutil.rmtree(folder)) == "anew"
    assert not folder.exists()
    assert made("three") == "anew" and made("three") == "found"


def test_a_folder_that_vanishes_between_its_making_and_its_opening(folder, monkeypatch):
    makedirs = os.makedirs
    monkeypatch.setattr(os, "makedirs", lambda path, *args, **options: (makedirs(path, *args, **options), shutil.rmtree(path)))
    assert made("one") == "anew"


@pytest.mark.parametrize("call", ["open", "replace", "write", "fstat", "read", "scandir"])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), OSError(24, "Too many open files"),
                                   PermissionError(13, "Permission denied")])
def test_an_error_of_the_system_does_not_reach_the_caller(folder, monkeypatch, call, error):
    def fail(*args, **options):
        raise error

    if call == "write":
        monkeypatch.setattr(cache, "open", lambda handle, mode: contextlib.closing(type("Full", (), {
            "write": fail, "close": lambda self: os.close(handle)})()), raising=False)
    else:
        monkeypatch.setattr(os, call, fail)
    monkeypatch.setattr(cache.Folder, "saved", 0)
    assert made("three") == "anew"
    monkeypatch.undo()
    assert not list(folder.glob("*.tmp"))


@pytest.mark.parametrize("place", ["/dev/null/cache", "/proc/nowhere/cache", "/" + "long" * 2000])
def test_impossible_folders(monkeypatch, place):
    monkeypatch.setenv("DEEPNOTES_CACHE_DIR", place)
    assert made("one") == "anew" and made("one") == "anew"


def test_sixteen_processes_on_one_cache(folder):
    children = []
    for number in range(16):
        child = os.fork()
        if child == 0:
            status = 1
            with contextlib.suppress(BaseException):        # a child must never go on with the tests
                for i in range(60):
                    made(f"loop {(i + number) % 20}", content=b"%d" % ((i + number) % 20) * 5000)
                status = 0
            os._exit(status)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 16
    assert [made(f"loop {i}", content=b"%d" % i * 5000) for i in range(20)] == ["found"] * 20
    assert len(list(folder.iterdir())) == 22 and not list(folder.glob("*.tmp"))


# Sweeping

def test_what_killed_processes_left_is_swept_away(folder, monkeypatch):
    monkeypatch.setattr(cache.Folder, "saved", 0)
    old, new = folder / "x.loop.1.tmp", folder / "y.loop.2.tmp"
    for path in (old, new):
        path.write_bytes(b"half")
    long_ago = time.time() - 2 * cache.STALE
    os.utime(old, (long_ago, long_ago))
    (folder / "note").write_text("of the user's")
    os.utime(folder / "note", (long_ago, long_ago))
    made("three")
    assert not old.exists() and new.exists() and (folder / "note").exists()


def test_the_oldest_entries_make_room(folder, monkeypatch):
    now = time.time()
    for age in range(2):
        os.utime(entries(folder)[age], (now - 1000 + age, now - 1000 + age))
    size = entries(folder)[0].stat().st_size
    monkeypatch.setattr(cache, "LIMIT", 2 * size + 10)
    monkeypatch.setattr(cache.Folder, "saved", 0)
    assert made("six") == "anew"
    assert made("two") == "found" and made("six") == "found" and made("one") == "anew"
