.PHONY: example-credit
example-credit: $(READY) ## a credit use case under GDPR, EU and US rules: red, green, served, proved
	$(BIN)/python examples/credit/run.py
