"""Packs a folder of small .safetensors files, well-formed and malformed, into safetensors_corpus.npz, byte for byte.

    python tests/data/make_safetensors_corpus.py FOLDER
"""
import sys
from pathlib import Path

import numpy as np

files = sorted(Path(sys.argv[1]).glob("*.safetensors"))
np.savez_compressed(Path(__file__).with_name("safetensors_corpus.npz"),
                    **{path.stem: np.frombuffer(path.read_bytes(), np.uint8) for path in files})
