"""What the benchmarks make of their numbers: goals are judged as they are stated, tables hold what was measured."""
import importlib.util
import json
from types import SimpleNamespace

import pytest
from conftest import ROOT


@pytest.fixture(scope="module")
def harness():
    spec = importlib.util.spec_from_file_location("benchmarks_harness", ROOT / "benchmarks" / "_harness.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def row(group, case, unit="s", **values):
    first = next(iter(values.values()))
    return {"group": group, "case": case, "unit": unit, "values": values,
            "ratios": {peer: first / value for peer, value in values.items()}}


ROWS = [row("epoch of a", "batch 1", ours=1.0, jax=2.0, torch=10.0), row("epoch of a", "batch 8", ours=3.0, jax=2.0),
        row("share", "products", "of the time", ours=0.8)]


def test_goals_are_judged_by_peer_by_case_and_by_value(harness):
    verdicts = harness.judged(ROWS, {
        ("epoch", "jax"): {"worst": 0.95}, ("epoch", "jax", ("batch 1",)): {"worst": 0.95, "geometric mean": 0.4},
        ("epoch", "torch", ("batch 1", "batch 8")): {"worst": 0.45}, "share": {"least": 0.85}, "epoch": {"value": 5.0},
        "nothing of this name": {"worst": 1.0}})
    found = {(v["group"], v["what"]): (round(v["reached"], 3), v["met"], v["missed by"]) for v in verdicts}
    assert found == {
        ("epoch, against jax", "worst"): (1.5, False, ["batch 8 (epoch of a)"]),
        ("epoch, batch 1, against jax", "worst"): (0.5, True, []),
        ("epoch, batch 1, against jax", "geometric mean"): (0.5, False, []),
        ("epoch, batch 1 to batch 8, against torch", "worst"): (0.1, True, []),     # measured at batch 1 only
        ("share", "least"): (0.8, False, ["products (share)"]),
        ("epoch", "value"): (3.0, True, [])}
    assert "0.80 of the time, target at least 0.85 of the time, missed; below it: products" in harness.sentence(verdicts[4])


def test_results_are_written_as_they_come_and_tables_leave_gaps(harness, tmp_path):
    def measured():
        yield "share", "products", "of the time", {"ours": 0.9}
        assert json.loads((tmp_path / "demo-2.json").read_text())["rows"][-1]["case"] == "products"
        yield "first epoch", "batch 1", "s", {"ours": 1.0, "jax": 4.0}
        yield "first epoch", "batch 8", "s", {"ours": 1.0}

    chosen = SimpleNamespace(threads=2, rounds=3, only="", out=tmp_path)
    calls = {"ours": lambda: None, "theirs": lambda: None}
    cases = [("calls", "one", calls), ("calls", "long", calls, 2)]
    harness.run("demo", cases, chosen, {"torch": "1.0", "not measured": {"no jax": "jax is not installed"}},
                {"share": {"least": 0.85}}, measured())
    result, text = json.loads((tmp_path / "demo-2.json").read_text()), (tmp_path / "demo-2.md").read_text()
    assert [r["case"] for r in result["rows"]] == ["one", "long", "products", "batch 1", "batch 8"]
    assert result["targets"][0]["met"] and result["facts"]["torch"] == "1.0"
    assert "| batch 8 | 1 s | – | – |" in text and "- no jax: jax is not installed" in text


def test_committed_results_are_those_of_benchmarks_that_exist():
    for path in (ROOT / "benchmarks" / "results").glob("*.json"):
        assert (ROOT / "benchmarks" / f"bench_{path.stem}.py").exists()
        assert {run["facts"]["threads"] for run in json.loads(path.read_text())["runs"]}
        assert path.with_suffix(".md").exists()
