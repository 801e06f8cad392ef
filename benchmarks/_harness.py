"""Side-by-side timings that a busy machine cannot tilt: peers take turns, in short rounds, and medians are compared.

A case is a name and one callable per peer, each doing the same work. Every round times every peer once, so that
whatever slows the machine down slows all of them; a round is as many calls as last about `ROUND` seconds. The table
shows the median over rounds, and the median of the rounds' own ratios; with `--busy` the processor time of each peer's
shortest round, and the ratios of those. `python -m benchmarks` runs them all.
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
BUSY = False            # whether others use the machine: then only processor time counts, and of that the shortest round
SETTLE = 0.0            # seconds until a peer's threads, which keep looking for work after a call, have gone to sleep
RESULTS = Path(__file__).parent / "results"


def options(description):
    "The command line shared by all benchmarks. Call before numpy or torch is imported: it sets their threads."
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--threads", type=int, default=1, help="cores that each peer may use")
    parser.add_argument("--rounds", type=int, default=41, help="rounds per case")
    parser.add_argument("--only", default="", help="run the cases whose name holds this text")
    parser.add_argument("--out", type=Path, default=RESULTS / "local", help="folder for the tables")
    parser.add_argument("--busy", action="store_true", help="others use this machine: processor time, the shortest round of each peer")
    parsed = parser.parse_args()
    global SETTLE, BUSY
    BUSY = parsed.busy
    SETTLE = 0.02 if parsed.threads > 1 else 0.0
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "DEEPNOTES_NUM_THREADS"):
        os.environ[name] = str(parsed.threads)
    return parsed


def clock_of():
    return time.process_time if BUSY else time.perf_counter


def calls_per_round(call):
    "How many calls last about ROUND seconds."
    call()
    n, clock = 1, clock_of()
    while True:
        start = clock()
        for _ in range(n):
            call()
        elapsed = clock() - start
        if elapsed > ROUND / 2 or n >= 10_000:
            return max(1, round(n * ROUND / elapsed)) if elapsed > 0 else n
        n *= 4


def compare(peers, rounds, once=False):
    """Seconds per call of each peer, and each peer's median ratio to the first.

    Parameters
    ----------
    peers : dict of str to callable
        What to time; the first is the one that others are compared with.
    rounds : int
        How often each is timed.
    once : bool
        For calls that are long and warm: one call is a round.
    """
    counts = {name: 1 if once else calls_per_round(call) for name, call in peers.items()}
    times, clock = {name: [] for name in peers}, clock_of()
    for _ in range(rounds):
        for name, call in peers.items():
            n = counts[name]
            if SETTLE:
                time.sleep(SETTLE)
                if not once:
                    call()
            start = clock()
            for _ in range(n):
                call()
            times[name].append((clock() - start) / n)
    first = next(iter(peers))
    if BUSY:
        seconds = {name: min(t) for name, t in times.items()}
        return seconds, {name: seconds[first] / least for name, least in seconds.items()}
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


def run(name, cases, chosen, versions, targets=None, measured=()):
    """Time all cases, print a table, and write it as markdown and JSON.

    Parameters
    ----------
    name : str
        The benchmark's name; files are called `<name>-<threads>.md` and `.json`.
    cases : iterable of (group, case, peers) or (group, case, peers, rounds)
        Peers as for `compare`; the group's geometric mean of ratios is reported. With `rounds`, each is one long call.
    chosen : Namespace
        What `options` returned.
    versions : dict
        Of the peers.
    targets : dict of str to dict, optional
        For groups whose name starts so: the largest "geometric mean" and "worst" ratio to the second peer, the
        largest "value" of the first, or its "least" value, that are aimed at. A key may be (start, peer) or
        (start, peer, cases) to look at another peer, and at some cases only.
    measured : iterable of (group, case, unit, dict of str to float), optional
        What was measured in another way than by timing calls in turns.

    Returns
    -------
    list of dict
        One row per case.
    """
    rows = []

    def keep(row):
        rows.append(row)
        print(line(row), flush=True)
        return save(name, rows, chosen, versions, targets or {})       # what was measured stays if a later case fails

    result = save(name, rows, chosen, versions, targets or {})
    for group, case, peers, *rounds in cases:
        if chosen.only and chosen.only not in f"{group} {case}":
            continue
        seconds, ratios = compare(peers, min(chosen.rounds, *rounds) if rounds else chosen.rounds, bool(rounds))
        result = keep({"group": group, "case": case, "unit": "s", "values": seconds, "ratios": ratios})
    for group, case, unit, values in measured:
        first = next(iter(values.values()))
        ratios = {peer: first / value for peer, value in values.items() if value}
        result = keep({"group": group, "case": case, "unit": unit, "values": values, "ratios": ratios})
    for verdict in result["targets"]:
        print(sentence(verdict))
    return rows


def save(name, rows, chosen, versions, targets):
    "Write what has been measured so far as markdown and JSON."
    facts = {"threads": chosen.threads, "rounds": chosen.rounds, **machine()}
    facts |= {"clock": "processor time, shortest rounds"} if BUSY else {}
    facts |= {key: value for key, value in versions.items() if value}
    result = {"facts": facts, "rows": rows, "targets": judged(rows, targets)}
    chosen.out.mkdir(parents=True, exist_ok=True)
    stem = chosen.out / f"{name}-{chosen.threads}"
    stem.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")
    stem.with_suffix(".md").write_text(f"# {name}\n\n" + table(result))
    return result


def machine():
    "The processor, how busy it was, and what ran."
    try:
        with open("/proc/cpuinfo") as file:
            model = next(row.split(":")[1].strip() for row in file if row.startswith("model name"))
    except (OSError, StopIteration):
        model = platform.processor() or platform.machine()
    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
    return {"processor": model, "cores": os.cpu_count(), "load": load, "system": platform.system(),
            "python": platform.python_version()}


def judged(rows, targets):
    "Each target, the value reached, and whether it is met."
    verdicts = []
    for key, limits in targets.items():
        start, peer, cases = (*(key if isinstance(key, tuple) else (key,)), None, None)[:3]
        here = [row for row in rows if row["group"].startswith(start) and (not cases or row["case"] in cases)]
        pairs = [(row, row["ratios"][peer] if peer else list(row["ratios"].values())[1]) for row in here
                 if (peer in row["ratios"] if peer else len(row["ratios"]) > 1)]
        for what, limit in limits.items():
            least = what == "least"
            found = [(row, next(iter(row["values"].values()))) for row in here] if least or what == "value" else pairs
            if not found:
                continue
            values = [value for _, value in found]
            value = geometric_mean(values) if what == "geometric mean" else (min if least else max)(values)
            where = start + (", " + " to ".join(dict.fromkeys((cases[0], cases[-1]))) if cases else "")
            verdicts.append({"group": where + (f", against {peer}" if peer else ""), "what": what, "limit": limit,
                             "reached": value, "met": holds(value, limit, least),
                             "unit": here[0]["unit"] if least or what == "value" else "",
                             "missed by": [row["case"] + " (" + row["group"] + ")" for row, v in found
                                           if what != "geometric mean" and not holds(v, limit, least)]})
    return verdicts


def holds(value, limit, least):
    return value >= limit if least else value <= limit


def sentence(verdict):
    unit = f" {verdict['unit']}" if verdict["unit"] else ""
    least = verdict["what"] == "least"
    missed = f"; {'below' if least else 'above'} it: " + ", ".join(verdict["missed by"]) if verdict["missed by"] else ""
    return (f"{verdict['group']}: {verdict['what']} {verdict['reached']:.2f}{unit}, "
            f"target at {'least' if least else 'most'} {verdict['limit']}{unit}, "
            f"{'met' if verdict['met'] else 'missed'}{missed}")


def shown(row, value):
    return pretty(value) if row["unit"] == "s" else f"{value:.3g} {row['unit']}"


def line(row):
    return (f"{row['group']:>16} {row['case']:<28} "
            + "  ".join(f"{peer} {shown(row, value)}" for peer, value in row["values"].items())
            + "  ratio " + " ".join(f"{r:.2f}" for r in list(row["ratios"].values())[1:]))


def table(result):
    "Facts, targets and rows as markdown."
    facts, rows = result["facts"], result["rows"]
    notes = facts.get("not measured", {})
    lines = [", ".join(f"{key} {value}" for key, value in facts.items() if key != "not measured"), ""]
    lines += [f"- {key}: {value}" for key, value in notes.items()]
    lines += [f"- {sentence(verdict)}" for verdict in result["targets"]] + [""]
    for group in dict.fromkeys(row["group"] for row in rows):
        here = [row for row in rows if row["group"] == group]
        peers = list(dict.fromkeys(peer for row in here for peer in row["values"]))
        titles = ["case", *peers, *[f"{peers[0]} / {p}" for p in peers[1:]]]
        lines += [f"### {group}", "", "| " + " | ".join(titles) + " |", "|---" * len(titles) + "|"]
        for row in here:
            times = [shown(row, row["values"][p]) if p in row["values"] else "–" for p in peers]
            ratios = [f"{row['ratios'][p]:.2f}" if p in row["ratios"] else "–" for p in peers[1:]]
            lines.append("| " + " | ".join([row["case"], *times, *ratios]) + " |")
        if len(peers) > 1:
            means = [geometric_mean(row["ratios"][p] for row in here if p in row["ratios"]) for p in peers[1:]]
            lines.append("| geometric mean |" + " |" * len(peers) + " " + " | ".join(f"{m:.2f}" for m in means) + " |")
        lines.append("")
    return "\n".join(lines)
