# The release battery beside ValidMind (AGPL: a benchmark peer only) and Giskard, each in an environment of its own.
.PHONY: bench-battery bench-battery-lock
bench-battery: $(STAMP) .venvs/bench-validmind/.ready .venvs/bench-giskard/.ready ## the release battery against ValidMind's tests and a Giskard scan
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python bench/battery.py bench/out/battery

bench-battery-lock: $(STAMP) ## pin the battery's peers again
	cd requirements && for name in validmind giskard; do ../$(BIN)/pip-compile -q --generate-hashes --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --strip-extras --allow-unsafe --no-header bench-$$name.in -o bench-$$name.lock; done
