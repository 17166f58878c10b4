# Exact Shapley values of one row: the kernel against LightGBM and XGBoost.
.PHONY: bench-shap
bench-shap: $(STAMP) ## exact reasons of one row against LightGBM's and XGBoost's own
	OMP_NUM_THREADS=1 $(BIN)/python bench/treeshap.py bench/out/shap
