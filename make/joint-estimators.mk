# Joint training with the real engine: one worker process per party, pinned mutual TLS.
.venvs/worker-spu/.ready: src/fiduciary/joint/locks/spu.lock
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --require-hashes -r $<
	touch $@

.PHONY: test-joint-estimators bench-joint
test-joint-estimators: $(STAMP) .venvs/worker-spu/.ready ## joint estimators on real data, three processes each
	FIDUCIARY_TEST_JOINT=1 FIDUCIARY_WORKERS__FOLDER=$(CURDIR)/.venvs $(BIN)/pytest tests/joint_estimators -rs --timeout=1800

bench-joint: $(STAMP) .venvs/worker-spu/.ready ## joint training beside plaintext: time, bytes, rounds, memory, AUC
	FIDUCIARY_WORKERS__FOLDER=$(CURDIR)/.venvs $(BIN)/python bench/joint.py bench/out/joint
