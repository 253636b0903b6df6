# Every target works in a fresh clone: it makes .venv on first use and is quick from then on.
# Another interpreter: make demo PYTHON=/path/to/python3.12
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin

# one thread per process: the test workers share the cores among themselves
export OMP_NUM_THREADS ?= 1

.PHONY: help demo test lint check model paper painn-paper label-more label-extra clean
help:
	@echo "make demo   predict a spectrum the shipped model has never seen, beside first principles"
	@echo "make test   run the tests"
	@echo "make lint   style, types and the floors of the architecture"
	@echo "make check  lint and test: before every commit"
	@echo "make model  train the shipped model again, with its report"
	@echo "make paper  the evaluations of the ISD-PaiNN paper on our own data, with pictures"
	@echo "make painn-paper PUBLISHED=folder   the evaluations of the PaiNN paper, on published data (see the target)"
	@echo "make label-more   go on with the campaign that grows data/ck-tp-pbe; stop it with Ctrl-C at any time"
	@echo "make label-extra  the sets that are for testing only: data/ck-tp-pbe-extra"
	@echo "make clean  remove .venv and what the targets wrote"

demo: $(VENV)/.core
	$(BIN)/python examples/demo.py

test: $(VENV)/.test
	$(BIN)/python -m pytest -n auto --maxprocesses 8 $(PYTEST_OPTIONS)

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

check: lint test

# The shipped model from nothing: each of three networks learns from crude spectra first, then from first-principles ones.
# An hour on two cores, half of it for the crude spectra. All networks must see the same data: stop label-more meanwhile.
# What is in runs/ is kept: after a change of recipe or data, remove runs/ck-tensor-* first.
SEEDS := 0 1 2
SHIPPED := src/equispec/assets/models/ck-tensor
TRAIN := $(BIN)/equispec train
CRUDE := runs/gfn2-core/candidates.h5 runs/gfn2-core/pretraining.h5
.PRECIOUS: $(CRUDE) runs/ck-tensor-pretraining-%/model
model: $(foreach seed,$(SEEDS),runs/ck-tensor-$(seed)/model)
	$(BIN)/equispec models merge $(addprefix runs/ck-tensor-,$(SEEDS)) -o $(SHIPPED)
	$(BIN)/equispec models calibrate ck-tensor data/ck-tp-pbe
	$(BIN)/equispec eval ck-tensor data/ck-tp-pbe --record --report docs/ck-tensor

runs/gfn2-core/%.h5: | $(VENV)/.test
	mkdir -p $(@D)
	$(BIN)/equispec label data/$*.xyz.gz --method gfn2-core --resume -o $@

runs/ck-tensor-pretraining-%/model: | $(VENV)/.test $(CRUDE)
	$(TRAIN) configs/ck-tensor-pretraining.yaml --set train.seed=$* -o $(@D)

runs/ck-tensor-%/model: | runs/ck-tensor-pretraining-%/model
	$(TRAIN) configs/ck-tensor.yaml --set train.seed=$* --set train.init=$| --set train.epochs=60 -o $(@D)

# The evaluations of the ISD-PaiNN paper, on our own data: docs/isd-painn-paper. Trainings are kept in runs/paper; all of
# it takes two hours on one core, nearly all for splits, ablations and learning curve.
PAPER := $(BIN)/python benchmarks/paper
EXTRA := data/ck-tp-pbe-extra
paper: $(VENV)/.test runs/ck-tensor-pretraining-0/model
	$(PAPER)/fig1.py ck-tensor data/ck-tp-pbe
	$(PAPER)/fig2.py ck-tensor data/ck-tp-pbe
	$(PAPER)/splits.py data/ck-tp-pbe
	$(PAPER)/ablations.py data/ck-tp-pbe
	$(PAPER)/learning_curve.py data/ck-tp-pbe --set train.init=runs/ck-tensor-pretraining-0/model --set train.epochs=60
	$(PAPER)/benzene.py ck-tensor $(EXTRA)/benzene-rotated.h5
	$(PAPER)/amino_acids.py ck-tensor $(EXTRA)/amino-acids.h5
	$(PAPER)/extrapolation.py ck-tensor data/ck-tp-pbe $(EXTRA)/larger-molecules
	$(PAPER)/timing.py ck-tensor data/ck-tp-pbe

# The evaluations of the PaiNN paper: docs/painn-paper. PUBLISHED is a folder of data that are not ours: md17, botnet_*, qm9_*,
# water_* and qm7x_* with the files named in docs/painn-paper. Trainings are kept in runs/ and resumed: a day on two cores.
ETHANOL := $(PUBLISHED)/md17/ethanol_random2000.npz
STORES := runs/paper/stores
painn-paper: $(VENV)/.test runs/md17-ethanol/model $(STORES)/ethanol-gfn2.h5
	$(BIN)/python benchmarks/painn_paper/chains.py
	$(PAPER)/painn_md17.py runs/md17/ethanol.h5 runs/md17-ethanol
	$(PAPER)/painn_botnet.py $(PUBLISHED)/botnet_3bpa_acac_ethanol
	$(PAPER)/painn_ablations.py $(ETHANOL) data/aspirin/aspirin-gfn2.h5
	$(PAPER)/painn_ethanol_dipoles.py $(STORES)/ethanol-gfn2.h5
	$(PAPER)/painn_torsion.py data/ferrocene/ferrocene-gfn2.h5 data/ferrocene/profile-gfn2.h5
	$(PAPER)/painn_dipoles.py $(PUBLISHED)/qm9_geometries_128k/qm9_mp2_10000.npz \
		$(PUBLISHED)/qm9_geometries_128k/qm9_noF_128744_geometries.npz
	$(PAPER)/painn_polarizability.py $(PUBLISHED)/water_dipole_polarizability_sagpr \
		$(PUBLISHED)/qm7x_100_dipole_polarizability

runs/md17/ethanol.h5: | $(VENV)/.test
	mkdir -p $(@D)
	$(BIN)/equispec data convert md17 $(ETHANOL) -o $@

$(STORES)/ethanol-gfn2.h5: | $(VENV)/.test
	$(BIN)/python benchmarks/painn_paper/trajectory_data.py ethanol -o $(@D)

runs/md17-ethanol/model: | runs/md17/ethanol.h5
	$(TRAIN) configs/md17_ethanol.yaml -o $(@D)

# Labels from first principles. LABEL_OPTIONS='--workers 16' or '--max-minutes 60', see docs/labelling.md
label-more: $(VENV)/.test
	nice -n 19 $(BIN)/equispec label data/candidates.xyz.gz --grow data/ck-tp-pbe $(LABEL_OPTIONS)

LABEL := nice -n 19 $(BIN)/equispec label --resume $(LABEL_OPTIONS)
label-extra: $(VENV)/.test
	$(LABEL) $(EXTRA)/benzene-rotated.xyz --sites all -o $(EXTRA)/benzene-rotated.h5
	$(LABEL) $(EXTRA)/amino-acids.xyz --sites all -o $(EXTRA)/amino-acids.h5
	$(LABEL) $(EXTRA)/fluorinated.xyz -o $(EXTRA)/fluorinated.h5
	nice -n 19 $(BIN)/equispec label $(EXTRA)/larger-molecules.xyz --grow $(EXTRA)/larger-molecules --batch 10 $(LABEL_OPTIONS)

clean:
	rm -rf $(VENV) demo .pytest_cache .ruff_cache .hypothesis .import_linter_cache

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "equispec needs Python 3.11 or newer; choose one with: make PYTHON=/path/to/python3" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.core: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install -qq --editable .
	@touch $@

$(VENV)/.test: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install -qq --editable '.[test]'
	@touch $@ $(VENV)/.core
