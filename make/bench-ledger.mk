# Ledger benchmark: ours beside SQLite, PostgreSQL and pymerkle in one run, peers in an environment of their own.
BENCH_LEDGER ?=

.PHONY: bench-ledger
bench-ledger: $(STAMP) .venvs/bench-ledger/.ready ## durable records, proofs and checks a second (options in BENCH_LEDGER)
	$(BIN)/python bench/ledger.py --peers .venvs/bench-ledger/bin/python $(BENCH_LEDGER)
