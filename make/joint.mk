# Joint jobs with the real engine: contract, links, intersection, secrecy, faults.
JOINT := FIDUCIARY_TEST_JOINT=1 FIDUCIARY_WORKERS__FOLDER=$(CURDIR)/.venvs

.PHONY: test-joint test-joint-faults bench-joint-psi lock-workers
test-joint: $(STAMP) .venvs/worker-spu/.ready ## joint jobs on the real engine: intersection, secrecy on the wire and in memory
	$(JOINT) $(BIN)/pytest tests/joint tests/joint_spu -rs --timeout=900

test-joint-faults: $(STAMP) .venvs/worker-spu/.ready ## 50 random kills of each party, stalls, cut and delayed links, a full disk
	$(JOINT) FIDUCIARY_JOINT_KILLS=50 $(BIN)/pytest tests/joint_spu/test_faults.py -rs --timeout=3600

bench-joint-psi: $(STAMP) .venvs/worker-spu/.ready ## intersection of 100,000 x 100,000: the engine alone beside ours
	FIDUCIARY_WORKERS__FOLDER=$(CURDIR)/.venvs $(BIN)/python bench/joint_psi.py

lock-workers: $(STAMP) ## pin the spu worker again
	cd requirements && ../$(BIN)/pip-compile -q --generate-hashes --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --strip-extras --allow-unsafe --no-header worker-spu.in -o ../src/fiduciary/joint/locks/spu.lock
