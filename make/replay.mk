.PHONY: test-replay
test-replay: $(STAMP) ## over 100,000 recorded decisions of all model families, decided again bit for bit
	FIDUCIARY_REPLAY_DECISIONS=105000 $(BIN)/pytest tests/slow/test_replay_many.py -q -s --timeout=3600
