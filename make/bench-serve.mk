# Serving benchmark: ours against the peers' bare prediction, one environment a peer, all from hash-pinned locks.
BENCH_PEERS := fastapi mlserver kserve mlflow
BENCH_PEER_STAMPS := $(BENCH_PEERS:%=.venvs/bench-%/.ready)
BENCH_SERVE ?=

.venvs/bench-%/.ready: requirements/bench-%.lock
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --require-hashes -r $<
	touch $@

.PHONY: bench-serve bench-wrk bench-lock
bench-wrk:
	@cd bench && $(PYTHON) -B -c 'import _load; _load.require_wrk()'

bench-serve: bench-wrk $(STAMP) $(BENCH_PEER_STAMPS) ## serving against MLServer, KServe, MLflow and FastAPI (needs wrk; options in BENCH_SERVE)
	OMP_NUM_THREADS=1 $(BIN)/python bench/serve.py $(BENCH_SERVE)

bench-lock: $(STAMP) ## pin the benchmark peers again, with hashes and without index addresses
	cd requirements && for name in $(BENCH_PEERS); do ../$(BIN)/pip-compile -q --generate-hashes --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --strip-extras --allow-unsafe --no-header bench-$$name.in -o bench-$$name.lock; done
