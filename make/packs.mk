.PHONY: pack-docs
pack-docs: $(STAMP) ## the pages that say what the shipped packs say, and the pack schema
	$(BIN)/python tests/pack_docs.py
