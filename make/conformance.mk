# Formats against other people's readers and vectors: Go's sumdb packages, Wycheproof, transparency-dev/merkle.
GO_SUMDB := /usr/share/gocode/src/golang.org/x/mod/sumdb/tlog

.PHONY: test-conformance
test-conformance: $(STAMP) ## the log read by Go's own tools, and published test vectors (needs Go)
	@command -v go >/dev/null && test -d $(GO_SUMDB) || { echo "Go and golang.org/x/mod are needed: apt-get install golang-go golang-golang-x-mod-dev"; exit 1; }
	$(BIN)/pytest tests/conformance tests/ledger_maths/test_merkle_vectors.py -rs
