"""What readers type into the search field leads, among the first hits, to where it is explained.

Sphinx ranks an entry of the index by how much of it was typed, 100 if all was; a page's title or a word in its text brings at most
some tens. So a word that is a term of the glossary is found first, and its definition leads on to the section.
"""

import json
import re

import pytest
from book_helpers import ROOT

NBS = ROOT / "nbs"
WORDS = ["universal approximation", "zero_grad", "detach", "learning rate", "dead ReLU", "uncertainty", "temperature",
         "bias initialization", "overfitting", "scalar loss", "kink"]


def glossary():
    "Each term of the glossary with its definition; terms that stand above one definition share it."
    terms, found = [], {}
    for line in (NBS / "glossary.md").read_text(encoding="utf-8").splitlines():
        if line.startswith("  "):
            for term in terms:
                found[term] = found.get(term, "") + line[1:]
        elif line.strip():
            terms = [*terms, line] if terms and terms[-1] not in found else [line]
        else:
            terms = []
    return found


@pytest.mark.parametrize("word", WORDS)
def test_a_word_that_readers_look_for_is_a_term_that_leads_to_its_section(word):
    definition = glossary()[word]
    [label, *_] = re.findall(r"\{ref\}`(sec-\d\d-[\w-]+)`", definition)
    pages = [path for path in NBS.glob("*.ipynb") if f'"({label})=' in path.read_text(encoding="utf-8")]
    assert [path.name[:2] for path in pages] == [label[4:6]], f"{label} of {word!r} is in {pages}"


def test_learning_rate_leads_to_the_section_that_chooses_one_as_well():
    cells = json.loads((NBS / "07_optimizers.ipynb").read_text(encoding="utf-8"))["cells"]
    [text] = [source for cell in cells if "## How do I choose the learning rate?" in (source := "".join(cell["source"]))]
    assert "```{index} ! learning rate\n```" in text
