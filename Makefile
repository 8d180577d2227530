# Each target is one script in scripts/, which can be called without make too.
.PHONY: help run test lint lock focus bench clean

help:
	@echo 'make run [ARGS="..."]    start the agent here; ARGS go to gpu-finops run'
	@echo 'make test [ARGS="..."]   every check and every test; ARGS go to pytest'
	@echo 'make lint                style, types, import layers'
	@echo 'make lock                pin the dependencies anew'
	@echo 'make focus [ARGS="..."]  check the FOCUS export with focus-validator (Python 3.12 or 3.13); ARGS are files'
	@echo 'make bench               speed and size, nvitop-exporter beside us'
	@echo 'make clean               remove what these made (not gpu-finops.toml, not the ledger)'

run:
	@sh scripts/run.sh $(ARGS)

test:
	@sh scripts/test.sh $(ARGS)

lint:
	@sh scripts/lint.sh

lock:
	@sh scripts/lock.sh $(ARGS)

focus:
	@sh scripts/focus-check.sh $(ARGS)

bench:
	@sh scripts/bench.sh $(ARGS)

clean:
	rm -rf .venv .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
