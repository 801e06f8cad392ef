# Two commands do everything on a fresh machine: `make book` and `make test`.
# All logic is in tools/tasks.py (standard library only), so that Windows without make has it too.
PYTHON ?= python3
PORT ?= 8000
ARGS ?=
TASK = $(PYTHON) tools/tasks.py

.PHONY: help book web pdf test test-web test-student test-binder test-lowest test-bare test-older-cpu check serve lab bench export update dist env lock clean
help:
	@echo "make book    build the online book into _build/html (makes the environment first)"
	@echo "make pdf     print the built book: a PDF of each chapter and one of the whole   ARGS=04_outputs"
	@echo "make test    run every chapter and every test        ARGS=\"-k name\" goes to pytest, ALL=1 reruns unchanged chapters, ARGS=--cov counts lines"
	@echo "make test-lowest     the library's tests with the lowest versions it declares"
	@echo "make test-bare       what users do, with numpy alone: no numba, scipy, matplotlib or safetensors"
	@echo "make test-older-cpu  the numeric tests as on an older processor"
	@echo "make test-web    the built book in a real browser, ten minutes   ARGS=--quick: five pages, ARGS=--cells: no page judged"
	@echo "make web     the full site in _build/web: the pages' code runs in the browser (fetches Pyodide once, 110 MB)"
	@echo "make serve   open the built book on localhost        PORT=8000"
	@echo "make lab     JupyterLab on a copy of each chapter to work in   SOURCE=1: on the sources"
	@echo "make test-student   run the notebooks that readers get, with only what readers have   ARGS=04_outputs"
	@echo "make test-binder    three of them in an empty environment with what binder/ lists, and nothing else"
	@echo "make check   the gate: export, clean notebooks, lint, contents, layering, types"
	@echo "make export  write deepnotes/ from the chapters"
	@echo "make update  carry edits made in deepnotes/ back into the chapters   ARGS=deepnotes/layers.py"
	@echo "make bench   side-by-side timings                    ARGS goes to the benchmarks"
	@echo "make dist    what a release consists of, in dist/, tried in an empty environment   ARGS=--untried: without a network"
	@echo "make lock    renew constraints.txt        make clean   remove what was built"
book web pdf test test-web test-student test-binder test-lowest test-bare test-older-cpu check lab export update env lock clean dist bench:
	@command -v $(PYTHON) >/dev/null 2>&1 || { echo "Error: no '$(PYTHON)' here: install Python 3.11 or newer, or name one with make PYTHON=/path/to/python3." >&2; exit 1; }
	@ALL=$(ALL) SOURCE=$(SOURCE) $(TASK) $@ $(ARGS)
serve:
	@$(TASK) serve --port $(PORT)
