# Exports of evidence folders read by tools that others wrote.
.venvs/conformance-evidence/.ready: requirements/conformance-evidence.lock
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --require-hashes -r $<
	touch $@

.PHONY: test-conformance-evidence
test-conformance-evidence: $(STAMP) .venvs/conformance-evidence/.ready ## OSCAL assessment results read by compliance-trestle
	FIDUCIARY_TRESTLE=$(CURDIR)/.venvs/conformance-evidence/bin/python $(BIN)/pytest tests/evidence/test_exports.py -rs
