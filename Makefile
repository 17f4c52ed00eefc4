# Everything starts from a fresh clone with Python 3.11 and pip: each target makes the virtual environment it needs.
PYTHON ?= python3
VENV   ?= .venv
BIN     = $(VENV)/bin
# Processes that share the tests, a thread each: as many as there are cores.
JOBS   ?= 2
STAMP   = $(VENV)/.ready

# What must be the same on every processor: all of it with the instructions of one without AVX-512, and whole models,
# operators and fast layers with one thread and with three.
PORTABLE = tests/golden tests/ops tests/fast
THREADS  = tests/golden/test_rcnn.py tests/golden/test_yolact.py tests/ops tests/fast
AVX2     = ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 MKL_ENABLE_INSTRUCTIONS=AVX2

.PHONY: demo demo-track test test-portable test-lowest notebooks check bench clean

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --editable ".[demo]" --group dev
	touch $@

demo: $(STAMP)
	$(BIN)/python -m maskwright.demo --out demo

demo-track: $(STAMP)
	$(BIN)/python -m maskwright.demo --track --out demo

test: $(STAMP)
	$(BIN)/python -m pytest --numprocesses $(JOBS) --dist worksteal

test-portable: $(STAMP)
	env $(AVX2) $(BIN)/python -m pytest --numprocesses $(JOBS) --dist worksteal $(PORTABLE)
	env OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(JOBS) --dist worksteal -k "not bf16_finds" $(THREADS)
	env OMP_NUM_THREADS=3 $(BIN)/python -m pytest -k "not bf16_finds" $(THREADS)

test-lowest:
	$(PYTHON) -m venv --clear $(VENV)-lowest
	$(VENV)-lowest/bin/python -m pip install --quiet uv
	$(VENV)-lowest/bin/uv pip install --quiet --python $(VENV)-lowest/bin/python --resolution lowest-direct \
	  --editable ".[demo]" --group dev
	$(VENV)-lowest/bin/python -m pytest --numprocesses $(JOBS) --dist worksteal

# Executes the notebooks without changing them; a cell that fails ends it.
notebooks: $(STAMP)
	$(BIN)/jupyter-execute --timeout=900 docs/*.ipynb

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

bench: $(STAMP)
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) $(VENV)-lowest demo
