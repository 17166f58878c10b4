# Fairness checks: time of all of them, and of group rates against Fairlearn.
.PHONY: bench-fairness
bench-fairness: $(STAMP) ## time of the fairness checks, and of group rates against Fairlearn
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python bench/fairness.py
