# `make demo` needs only python3 (3.11 or later); everything else goes into .venv.

PYTHON ?= python3
BIN := .venv/bin
RUN ?= runs/yin-yang
JOBS ?= 2
SECONDS ?= 600

.PHONY: help demo test test-float32 test-float64 test-mixed test-types test-slow test-lowest fuzz lint package docs benchmark clean

help:
	@echo 'make demo       train a network on the Yin-Yang task, into $(RUN)'
	@echo 'make test       run the tests in float32, in float64, and in float32 with x64 enabled'
	@echo 'make test-types run the tests with checks of all annotated types and shapes'
	@echo 'make test-slow  run the long tests, which the others leave out'
	@echo 'make test-lowest run some tests with the lowest versions of all dependencies, and networks in Brian2'
	@echo 'make fuzz       search for wrong spikes in random networks, for SECONDS (default 600) in each float type'
	@echo 'make lint       check style and types'
	@echo 'make docs       build the documentation site, into site/; tutorials are executed, JOBS (default 2) at a time'
	@echo 'make package    build the package, and try it in an empty environment'
	@echo 'make benchmark  train with ten seeds, into benchmarks/RESULTS.md'
	@echo 'make clean      remove .venv, runs, build and site'

demo: .venv/cli.stamp
	$(BIN)/python -m spikax train yin-yang --out $(RUN)

test: test-float32 test-float64 test-mixed

# Most of the time goes into compilations, and these settings halve it. The long tests, and pytest called by hand, have
# the code compiled as it is for a user.
test-float32 test-float64 test-mixed test-types package: export XLA_FLAGS := --xla_cpu_use_fusion_emitters=false
test-float32 test-float64 test-mixed test-types package: export JAX_DISABLE_MOST_OPTIMIZATIONS := 1

test-float32 test-float64 test-mixed: test-%: .venv/test.stamp
	SPIKAX_TEST_DTYPE=$* $(BIN)/python -m pytest -n 2 --dist loadscope

test-types: .venv/test.stamp
	SPIKAX_TEST_TYPES=1 SPIKAX_TEST_DTYPE=mixed $(BIN)/python -m pytest -n 2 --dist loadscope
	SPIKAX_TEST_TYPES=1 SPIKAX_TEST_DTYPE=float32 $(BIN)/python -m pytest -n 2 --dist loadscope

test-slow: .venv/test.stamp
	SPIKAX_TEST_DTYPE=float64 $(BIN)/python -m pytest -n 2 --dist loadscope -m slow

# Brian2 does not import with NumPy 2.4 and later. Old libraries warn of new ones, which is no error here.
test-lowest: .venv-lowest/stamp
	SPIKAX_TEST_DTYPE=float32 .venv-lowest/bin/python -m pytest -n 2 --dist loadscope -W default::DeprecationWarning \
		tests/test_readme.py tests/test_plots.py tests/test_nir.py tests/test_saving.py tests/test_command_line.py
	SPIKAX_TEST_DTYPE=float64 .venv-lowest/bin/python -m pytest -n 2 --dist loadscope tests/test_linear.py tests/test_brian2.py

fuzz: export SPIKAX_FUZZ_SECONDS := $(SECONDS)
fuzz: .venv/test.stamp
	SPIKAX_TEST_DTYPE=float32 $(BIN)/python -m pytest tests/test_fuzz.py
	SPIKAX_TEST_DTYPE=float64 $(BIN)/python -m pytest tests/test_fuzz.py

lint: .venv/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/pyright --pythonpath $(BIN)/python

# The warning is on the future of MkDocs. The configuration is one that its successor, Zensical, reads too.
docs: export NO_MKDOCS_2_WARNING := 1
docs: .venv/docs.stamp
	$(BIN)/python docs/assemble.py --jobs $(JOBS)
	$(BIN)/mkdocs build --strict --quiet
	@echo 'The site is in site/: $(BIN)/mkdocs serve shows it.'
package: .venv/test.stamp
	bash .ci/package

benchmark: .venv/cli.stamp
	$(BIN)/python benchmarks/results.py --only yin-yang-lif-first-spike

clean:
	rm -rf .venv .venv-lowest runs build site

# The stamp tells that an extra is installed, for the present pyproject.toml.
.venv/%.stamp: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[$*]'
	touch $@

.venv-lowest/stamp: pyproject.toml .ci/lowest.py
	rm -rf .venv-lowest
	$(PYTHON) -m venv .venv-lowest
	$(PYTHON) .ci/lowest.py test > .venv-lowest/lowest.txt
	.venv-lowest/bin/python -m pip install --quiet --constraint .venv-lowest/lowest.txt --editable '.[test]' brian2==2.9.0
	touch $@

.venv/bin/python:
	$(PYTHON) -m venv .venv
