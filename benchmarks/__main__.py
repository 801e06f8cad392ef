"""Run benchmarks, all or by name: `python -m benchmarks [names] [--threads 1,all] [--quick]`.

Each `bench_<name>.py` runs in a process of its own for every number of threads. `results/<name>.json` and `.md` then
hold the machine, the versions, medians, ratios, and for each target whether it is met.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from . import _harness

HERE = Path(__file__).resolve().parent


def main():
    known = sorted(path.stem.removeprefix("bench_") for path in HERE.glob("bench_*.py"))
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help=f"which of {', '.join(known)}; all, if none is named")
    parser.add_argument("--threads", default="1,all", help="numbers of cores, by commas; `all` is what there is")
    parser.add_argument("--quick", action="store_true", help="few rounds: a look, not a measurement")
    parser.add_argument("--busy", action="store_true", help="others use this machine: processor time, the shortest round of each peer")
    parser.add_argument("--only", default="", help="run the cases whose name holds this text")
    parser.add_argument("--out", type=Path, default=_harness.RESULTS, help="folder for the tables")
    chosen = parser.parse_args()
    unknown = [name for name in chosen.names if name not in known]
    if unknown:
        parser.error(f"there is no benchmark {', '.join(unknown)}: choose from {', '.join(known)}")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        threads = sorted({cores if n == "all" else int(n) for n in chosen.threads.split(",")})
    except ValueError:
        parser.error(f"--threads {chosen.threads}: expected numbers and `all`, by commas, as in 1,all")
    missing = [module for module in ("torch", "numba") if not installed(module)]
    if missing:
        sys.exit(f"Error: {' and '.join(missing)} cannot be imported here. `make bench` installs the peers.")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(
        [str(HERE.parent), *filter(None, [os.environ.get("PYTHONPATH")])])}
    failed = []
    for name in chosen.names or known:
        results = []
        with tempfile.TemporaryDirectory() as folder:
            for n in threads:
                print(f"── {name}, {n} thread{'s' if n > 1 else ''}", flush=True)
                command = [sys.executable, HERE / f"bench_{name}.py", "--threads", n, "--out", folder]
                command += ["--only", chosen.only] if chosen.only else []
                command += ["--rounds", 5] if chosen.quick else []
                command += ["--busy"] if chosen.busy else []
                if subprocess.run([str(part) for part in command], env=environment).returncode:
                    failed.append(f"{name} with {n} thread{'s' if n > 1 else ''}")
            results = [json.loads(path.read_text()) for path in sorted(Path(folder).glob("*.json"))]
        if results:
            write(name, results, chosen.out)
    if failed:
        sys.exit(f"Error: {', '.join(failed)} did not finish; what went wrong stands above.")


def installed(module):
    from importlib.util import find_spec
    return find_spec(module) is not None


def write(name, results, folder):
    results = sorted(results, key=lambda result: result["facts"]["threads"])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps({"name": name, "runs": results}, indent=1) + "\n")
    text = [f"# {name}\n"]
    for result in results:
        n = result["facts"]["threads"]
        text += [f"## {n} thread{'s' if n > 1 else ''}\n", _harness.table(result)]
    (folder / f"{name}.md").write_text("\n".join(text).rstrip() + "\n")
    print(f"── written: {folder / (name + '.md')} and .json")


if __name__ == "__main__":
    main()
