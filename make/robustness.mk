# Certificates, attacks, hardening and privacy exposure: the long tests and the figures.
.PHONY: test-robustness bench-robustness
test-robustness: $(STAMP) ## robustness on 100,000 rows a model and on real data
	FIDUCIARY_ROBUST_ROWS=100000 FIDUCIARY_ROBUST_EXAMPLES=2000 FIDUCIARY_ROBUST_LONG=1 $(BIN)/pytest tests/checks_robust -q -s --timeout=3600

bench-robustness: $(STAMP) ## time of a certificate against veritas; hardening and privacy on real data
	OMP_NUM_THREADS=1 $(BIN)/python bench/robustness.py bench/out/robustness
