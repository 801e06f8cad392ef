"""Side-by-side timings that a busy machine cannot tilt: peers take turns, in short rounds, and medians are compared.

A case is a name and one callable per peer, each doing the same work. Every round times every peer once, so that whatever
slows the machine down slows all of them; a round is as many calls as last about `ROUND` seconds. The table shows the median
over rounds, and the median of the rounds' own ratios.
"""
import argparse
import json
import math
import os
import platform
import statistics
import time
from pathlib import Path

ROUND = 0.0005
RESULTS = Path(__file__).parent / "results"


def options(description):
    "The command line shared by all benchmarks. Call before numpy or torch is imported: it sets their threads."
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--threads", type=int, default=1, help="cores that each peer may use")
    parser.add_argument("--rounds", type=int, default=41, help="rounds per case")
    parser.add_argument("--only", default="", help="run the cases whose name holds this text")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the tables")
    parsed = parser.parse_args()
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "DEEPNOTES_NUM_THREADS"):
        os.environ[name] = str(parsed.threads)
    return parsed


def calls_per_round(call):
    "How many calls last about ROUND seconds."
    call()
    n = 1
    while True:
        start = time.perf_counter()
        for _ in range(n):
            call()
        elapsed = time.perf_counter() - start
        if elapsed > ROUND / 2 or n >= 10_000:
            return max(1, round(n * ROUND / elapsed)) if elapsed > 0 else n
        n *= 4


def compare(peers, rounds):
    """Seconds per call of each peer, and each peer's median ratio to the first.

    Parameters
    ----------
    peers : dict of str to callable
        What to time; the first is the one that others are compared with.
    rounds : int
        How often each is timed.
    """
    counts = {name: calls_per_round(call) for name, call in peers.items()}
    times = {name: [] for name in peers}
    for _ in range(rounds):
        for name, call in peers.items():
            n = counts[name]
            start = time.perf_counter()
            for _ in range(n):
                call()
            times[name].append((time.perf_counter() - start) / n)
    first = next(iter(peers))
    seconds = {name: statistics.median(t) for name, t in times.items()}
    ratios = {name: statistics.median(a / b for a, b in zip(times[first], t, strict=True)) for name, t in times.items()}
    return seconds, ratios


def pretty(seconds):
    for unit, scale in (("s", 1), ("ms", 1e3), ("µs", 1e6)):
        if seconds * scale >= 1:
            return f"{seconds * scale:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"


def geometric_mean(values):
    values = list(values)
    return math.exp(sum(map(math.log, values)) / len(values)) if values else math.nan


def run(name, cases, chosen, versions):
    """Time all cases, print a table, and write it as markdown and JSON.

    Parameters
    ----------
    name : str
        The benchmark's name; files are called `<name>-<threads>.md` and `.json`.
    cases : iterable of (group, case, peers)
        Peers as for `compare`; the group's geometric mean of ratios is reported.
    chosen : Namespace
        What `options` returned.
    versions : dict
        Of the peers.

    Returns
    -------
    list of dict
        One row per case.
    """
    rows = []
    for group, case, peers in cases:
        if chosen.only and chosen.only not in f"{group} {case}":
            continue
        seconds, ratios = compare(peers, chosen.rounds)
        rows.append({"group": group, "case": case, "seconds": seconds, "ratios": ratios})
        print(f"{group:>16} {case:<28} " + "  ".join(f"{p} {pretty(s)}" for p, s in seconds.items())
              + "  ratio " + " ".join(f"{r:.2f}" for r in list(ratios.values())[1:]), flush=True)
    write(name, rows, chosen, versions)
    return rows


def write(name, rows, chosen, versions):
    chosen.out.mkdir(parents=True, exist_ok=True)
    facts = {"threads": chosen.threads, "rounds": chosen.rounds, "cores": os.cpu_count(),
             "machine": platform.machine(), "python": platform.python_version(), **versions}
    stem = chosen.out / f"{name}-{chosen.threads}"
    stem.with_suffix(".json").write_text(json.dumps({"facts": facts, "rows": rows}, indent=1) + "\n")
    lines = [f"# {name}, {chosen.threads} thread{'s' if chosen.threads > 1 else ''}", "",
             ", ".join(f"{key} {value}" for key, value in facts.items()), ""]
    groups = list(dict.fromkeys(row["group"] for row in rows))
    for group in groups:
        here = [row for row in rows if row["group"] == group]
        peers = list(here[0]["seconds"])
        lines += [f"## {group}", "", "| case | " + " | ".join(peers) + " | " + " | ".join(f"{peers[0]} / {p}" for p in peers[1:])
                  + " |", "|---" * (2 * len(peers)) + "|"]
        for row in here:
            lines.append("| " + " | ".join([row["case"], *map(pretty, row["seconds"].values()),
                                            *[f"{r:.2f}" for r in list(row["ratios"].values())[1:]]]) + " |")
        means = [geometric_mean(row["ratios"][p] for row in here) for p in peers[1:]]
        lines += ["| geometric mean |" + " |" * len(peers) + " " + " | ".join(f"{m:.2f}" for m in means) + " |", ""]
        print(f"{group}: geometric mean {' '.join(f'{m:.2f}' for m in means)}")
    stem.with_suffix(".md").write_text("\n".join(lines))
