.PHONY: test-crash
test-crash: $(STAMP) ## every kind of crash: 12,000 states after power cuts, 300 kills, each call failing once
	FIDUCIARY_CRASH_STATES=12000 FIDUCIARY_CRASH_KILLS=300 $(BIN)/pytest tests/crash -q -s --timeout=3600
