# The V2 doors with a client that others wrote, and the same checks against another server of the protocol.
.PHONY: test-conformance-oip
test-conformance-oip: $(STAMP) .venvs/bench-kserve/.ready .venvs/bench-mlserver/.ready ## the kserve client against us and MLServer
	$(BIN)/pytest tests/conformance/oip -rs
