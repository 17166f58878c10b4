# Computing on ciphertexts: TenSEAL scores (the product's Python), OpenFHE trains (its wheel needs Python 3.10).
PYTHON310 ?= $(shell command -v python3.10 || ls -d $(HOME)/.pyenv/versions/3.10.*/bin/python3.10 2>/dev/null | tail -1)
HE_LOCKS := src/fiduciary/joint/locks
BENCH_JOINT_HE ?=

.venvs/worker-tenseal/.ready: $(HE_LOCKS)/tenseal.lock
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --require-hashes -r $<
	touch $@

.venvs/worker-openfhe/.ready: $(HE_LOCKS)/openfhe.lock
	@test -n "$(PYTHON310)" || { echo "Python 3.10 is needed for encrypted training: make PYTHON310=/path/to/python3.10"; exit 1; }
	$(PYTHON310) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --require-hashes -r $<
	touch $@

.PHONY: test-joint-he bench-joint-he
test-joint-he: $(STAMP) .venvs/worker-tenseal/.ready .venvs/worker-openfhe/.ready ## encrypted scoring and training with the real engines (needs Python 3.10)
	FIDUCIARY_HE_WORKERS=$(CURDIR)/.venvs $(BIN)/pytest tests/joint_he -rs --timeout=1800

bench-joint-he: $(STAMP) .venvs/worker-tenseal/.ready .venvs/worker-openfhe/.ready ## encrypted scoring and training: times, memory, accuracy (options in BENCH_JOINT_HE)
	$(BIN)/python bench/joint_he.py --workers .venvs $(BENCH_JOINT_HE)
