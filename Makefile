# gan.h is one header; this file builds the tool, the examples, the tests and the benchmarks.
# Needs cc and make. CC, CXX, CFLAGS, CPPFLAGS, LDFLAGS are yours; what the build needs is added.

CC      ?= cc
CXX     ?= c++
CFLAGS  ?= -O2
PYTHON  ?= python3
BUILD   ?= build
JOBS    ?= 2

# OPENMP=1: with threads, OPENMP=0: without; by default with, where the compiler can.
ifndef OPENMP
OPENMP  := $(shell mkdir -p $(BUILD) && echo 'int main(void) { return 0; }' > $(BUILD)/probe.c && \
             $(CC) -fopenmp $(BUILD)/probe.c -o $(BUILD)/probe 2>/dev/null && echo 1 || echo 0)
endif
ifeq ($(OPENMP),1)
OMP     := -fopenmp
else
OMP     := -Wno-unknown-pragmas
endif

WARN    := -Wall -Wextra -Wpedantic -Wshadow -Wconversion
FLAGS   := -std=c99 -I. $(WARN) $(OMP)
EXAMPLES := $(patsubst examples/%.c,$(BUILD)/%,$(wildcard examples/*.c))
TESTS   := $(patsubst tests/%.c,$(BUILD)/%,$(wildcard tests/test_*.c))
SANITIZERS := address,undefined
DEMO    := $(BUILD)/demo

all: $(EXAMPLES) ## build the tool (build/gan) and the other examples

$(BUILD)/%: examples/%.c gan.h
	@mkdir -p $(BUILD)
	$(CC) $(CPPFLAGS) $(CFLAGS) $(FLAGS) $< -o $@ $(LDFLAGS) -lm

$(BUILD)/test_%: tests/test_%.c $(wildcard tests/*.h) gan.h
	@mkdir -p $(BUILD)
	$(CC) $(CPPFLAGS) $(CFLAGS) $(FLAGS) $< -o $@ $(LDFLAGS) -lm

$(BUILD)/%: bench/%.c gan.h
	@mkdir -p $(BUILD)
	$(CC) $(CPPFLAGS) $(CFLAGS) $(FLAGS) $< -o $@ $(LDFLAGS) -lm

demo: $(BUILD)/gan ## train DCGAN on drawn digits (two minutes): build/demo/samples.png, losses.svg
	$(BUILD)/gan train dcgan --size 32 --channels 1 --ngf 24 --ndf 12 --lr 0.0005 --steps 1500 --overwrite --out $(DEMO)

test: ## build and run all tests; the last line says N passed, N failed
	@$(MAKE) --no-print-directory -j$(JOBS) $(TESTS) $(EXAMPLES)
	@GAN=$(BUILD)/gan sh tests/run.sh $(TESTS) tests/tool.sh

check: test check-header ## test, and the header as C and C++ with every option

check-header: ## warnings, C99 and C++11, linking twice, options, symbols, the manual's programs
	@CC="$(CC)" CXX="$(CXX)" sh tests/check_header.sh

sanitize: ## all tests under the address and undefined-behaviour sanitizers
	@$(MAKE) --no-print-directory test BUILD=$(BUILD)/sanitize OPENMP=0 \
	    CFLAGS="-O1 -g -fsanitize=$(SANITIZERS) -fno-sanitize-recover=all -fno-omit-frame-pointer"

race: ## every system on four threads under the thread sanitizer
	@mkdir -p $(BUILD)
	$(CC) -O1 -g -fsanitize=thread -std=c99 -D_POSIX_C_SOURCE=200112L -I. $(WARN) -Wno-unknown-pragmas \
	    tests/race.c -o $(BUILD)/race -lm -lpthread
	TSAN_OPTIONS=halt_on_error=1 sh tests/run.sh $(BUILD)/race

cross: ## kernel tests for aarch64 (NEON) under qemu; 32-bit ARM and RISC-V (scalar)
	@sh tests/cross.sh

fuzz: ## one minute of each fuzz target (needs clang with libFuzzer)
	@sh tests/fuzz.sh

bench: $(BUILD)/bench ## time the kernels and the training steps
	$(BUILD)/bench

bench-peers: $(BUILD)/bench ## steps, generators, layers, products in turn with PyTorch, onnxruntime, OpenBLAS; ARGS="--threads 2"
	$(PYTHON) bench/peers/compare.py --bench $(BUILD)/bench $(ARGS)

# MNIST and, for the scale, Fashion-MNIST as published: folders of compressed IDX files.
MNIST   ?= ../shared/data/mnist
FASHION ?= ../shared/data/fashion-mnist
JUDGE   := OMP_WAIT_POLICY=passive $(BUILD)/quality --out $(BUILD)/judge/rows \
             --data $(BUILD)/judge/mnist/train-images-idx3-ubyte

quality/data:
	@mkdir -p $(BUILD)/judge/mnist $(BUILD)/judge/fashion bench/pictures
	gunzip -c $(MNIST)/train-images-idx3-ubyte.gz > $(BUILD)/judge/mnist/train-images-idx3-ubyte
	gunzip -c $(MNIST)/train-labels-idx1-ubyte.gz > $(BUILD)/judge/mnist/train-labels-idx1-ubyte
	-gunzip -c $(FASHION)/train*-images-idx3-ubyte.gz > $(BUILD)/judge/fashion/images

quality: $(BUILD)/quality quality/data ## train all systems with a fixed budget and judge them: bench/QUALITY.md (hours)
	$(JUDGE) --other $(BUILD)/judge/fashion/images scale
	$(JUDGE) run all
	$(JUDGE) table bench/QUALITY.md torch-dcgan torch-wgan-gp # where bench/peers/quality.py was scored
	set -e; for picture in $$(sed -n 's/.*(pictures.\(.*\))/\1/p' bench/QUALITY.md); do \
	    cp $(BUILD)/judge/rows/$$picture bench/pictures; done

fixtures: ## write the PyTorch fixtures of the tests again (needs python3 with torch)
	set -e; for script in tests/fixtures*.py; do $(PYTHON) $$script; done

clean: ## delete the build folder
	rm -rf $(BUILD)

help: ## show this list
	@grep -E '^[a-z-]+:.*##' Makefile | sed 's/:.*##/:/' | awk -F: '{ printf "  %-14s%s\n", $$1, $$2 }'

.PHONY: all demo test check check-header sanitize race cross fuzz bench bench-peers quality quality/data fixtures clean help
