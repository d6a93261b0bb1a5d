# Every target runs from a fresh clone with Go alone, unless its comment says otherwise.
GOLANGCI_LINT_VERSION := v2.15.0
LINT := $(shell go env GOPATH)/bin/golangci-lint
FUZZTIME ?= 20s

.PHONY: build test kill-series race fuzz lint generate bench bench-gemm interop vllm-prepare vllm-collect tokenizer-parity report-screenshots results methods readme

build: ## the pure Go binary ./quantize
	CGO_ENABLED=0 go build -trimpath ./cmd/quantize

test: ## every test that Go alone can run (not interop, tokenizer-parity, test-cuda); under four minutes on two cores
	go test ./...

kill-series: ## kill -9 at random moments, resume, compare bytes: make kill-series [MODEL=DIR] RECIPE=rtn [CALIB=FILE] [KILLS=50] [SEED=1]
	go test ./cmd/quantize -run 'TestKillSeries$$' -count 1 -timeout 24h -v -args -kill-model=$(if $(MODEL),$(abspath $(MODEL))) -kill-recipe=$(RECIPE) -kill-calib=$(if $(CALIB),$(abspath $(CALIB))) -kills=$(or $(KILLS),50) -kill-seed=$(or $(SEED),1)

race: ## the same under the race detector (needs a C compiler)
	go test -race -timeout 30m ./...

fuzz: ## every fuzz target for FUZZTIME (minimising an input is cut short: by default one may take all of it)
	@for pkg in $$(go list ./...); do \
	  for target in $$(go test -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
	    echo "$$pkg $$target"; go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 200x $$pkg || exit 1; \
	  done; done

lint: $(LINT) ## golangci-lint, pinned
	$(LINT) run ./...

$(LINT):
	go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_LINT_VERSION)

generate: ## the assembly and whatever else is generated
	go generate ./...

bench: ## Go benchmarks; each checks its result before it times
	go test -run '^$$' -bench . -benchtime 1s ./...

bench-gemm: ## our GEMM beside gonum and OpenBLAS (needs gcc and libopenblas-dev)
	kernels/cpu/bench/run.sh

interop: ## load our exports in transformers, anew for docs/interop.md: make interop DIR=scratch [MODELS="DIR..."] (needs python3)
	testdata/interop/run.sh $(DIR) $(MODELS)
	$(MAKE) readme

vllm-prepare: ## pack what vLLM is to load on a machine with a Hopper GPU: make vllm-prepare DIR=scratch [EXPORTS="NAME=DIR..."] (needs python3; docs/interop.md has the rest)
	testdata/interop/vllm/prepare.sh $(DIR) $(EXPORTS)

vllm-collect: ## judge the dumps that came back, for docs/interop.md: make vllm-collect DIR=scratch DUMPS="FOLDER..." (of two with the same case the later counts)
	mkdir -p $(DIR)/dumps
	set -e; for d in $(DUMPS); do cat $$d/dumps.tar.xz.* | xz -dc | tar xf - -C $(DIR)/dumps; done
	QUANTIZE_VLLM=$(abspath $(DIR)) go test -count 1 -v -run 'TestVLLM$$' ./kernels
	python3 testdata/interop/vllm/collect.py $(DIR) testdata/results/vllm.json
	$(MAKE) readme

tokenizer-parity: ## ids against Hugging Face tokenizers (needs npm, and PYTHON with tokenizers 0.23.3; DIR receives the tokenizers)
	model/tokenizer/testdata/parity.sh $(DIR)

REPORT ?= tiny
SCREENSHOTS ?= quantize-screenshots
report-screenshots: ## the report at 1280 and 390 pixels, light and dark, and on paper, below SCREENSHOTS (needs chromium and pdftotext): [REPORT=report.html]
	mkdir -p $(SCREENSHOTS)
	QUANTIZE_REPORT_SCREENSHOTS=$(if $(filter tiny,$(REPORT)),tiny,$(abspath $(REPORT))) \
	  go test -count 1 -v -run "Screenshots|Printed" -artifacts -outputdir $(abspath $(SCREENSHOTS)) ./eval/report

results: ## measure the README's table anew: make results SMOLLM2=DIR QWEN=DIR TEXT=FILE PYTHON=python3
	testdata/results/run.sh "$(SMOLLM2)" "$(QWEN)" "$(TEXT)"
	$(MAKE) readme

methods: ## measure docs/accuracy.md's tables anew (hours): make methods SMOLLM2=DIR QWEN=DIR TEXT=FILE CALIB=FILE
	testdata/results/methods-all.sh "$(SMOLLM2)" "$(TEXT)" "$(CALIB)" "$(QWEN)"
	$(MAKE) readme

readme: ## rewrite the tables of README.md and docs from testdata/results/*.json
	go run ./internal/readme

# --- CUDA ------------------------------------------------------------------------------------------------------------------
# `build-cuda` and `test-cuda` need a C compiler beside Go; cuda.h and a libcuda to link with come from CUDA_HOME, or from PyPI
# (python3 with pip) where there is none. The cubins are in the repository: only `kernels` needs nvcc.
CUDA_CACHE := .cache/cuda
CUDA_HOME ?= $(if $(wildcard /usr/local/cuda/include/cuda.h),/usr/local/cuda,$(CUDA_CACHE)/cu13)
CUDA_ENV = CGO_ENABLED=1 CGO_CFLAGS="-I$(CURDIR)/kernels/cuda/shim -I$(abspath $(CUDA_HOME))/include" \
	CGO_LDFLAGS="-L$(abspath $(CUDA_HOME))/lib64/stubs -L$(abspath $(CUDA_CACHE))/stub"

.PHONY: cuda-toolkit kernels kernels-check build-cuda vet-cuda test-cuda test-cuda-binary

cuda-toolkit: $(CUDA_CACHE)/cu13/bin/nvcc ## nvcc 13.0, headers and a stub libcuda, without a GPU (100 MB from PyPI)

$(CUDA_CACHE)/cu13/bin/nvcc:
	kernels/cuda/toolkit.sh $(CUDA_CACHE)

$(CUDA_CACHE)/cu13/include/cuda.h:
	kernels/cuda/toolkit.sh $(CUDA_CACHE) headers

kernels: cuda-toolkit ## compile kernels/cuda/src to the cubins and manifest in the repository
	go run ./kernels/cuda/mkcubin -nvcc $(CUDA_CACHE)/cu13/bin/nvcc

kernels-check: cuda-toolkit ## the cubins in the repository are what nvcc makes of the sources
	go run ./kernels/cuda/mkcubin -nvcc $(CUDA_CACHE)/cu13/bin/nvcc -check

build-cuda: $(CUDA_HOME)/include/cuda.h ## ./quantize with the GPU backend; it runs where a driver for CUDA 13 is
	$(CUDA_ENV) go build -tags cuda -trimpath ./cmd/quantize

vet-cuda: $(CUDA_HOME)/include/cuda.h
	$(CUDA_ENV) go vet -tags cuda ./kernels/cuda/... ./cmd/quantize

test-cuda: $(CUDA_HOME)/include/cuda.h ## the GPU tests; needs a Hopper card
	$(CUDA_ENV) go test -tags cuda -count 1 -timeout 30m ./kernels/cuda

test-cuda-binary: $(CUDA_HOME)/include/cuda.h ## the GPU tests as a program, for kernels/cuda/device.sh on another machine
	mkdir -p kernels/cuda/build
	$(CUDA_ENV) go test -tags cuda -c -ldflags "-s -w" -o kernels/cuda/build/cuda.test ./kernels/cuda
