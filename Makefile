# make run, make test: the two commands. Both install what they need (Debian packages), build, and
# are fast when repeated.
.PHONY: run test build asan tsan fuzz lint install-build install-test clean help

JOBS ?= $(shell nproc)

help:
	@echo "make run    build and write a story with the embedded default model"
	@echo "make test   build and run every test"
	@echo "make build  the release binary, build/release/inkstone"
	@echo "make lint   format, layers, file sizes, licences"
	@echo "make asan | tsan | fuzz   sanitizer builds and fuzzers"

install-build:
	@sh tools/install.sh packages/build.txt

install-test: install-build
	@sh tools/install.sh packages/test.txt

build/release/build.ninja: CMakePresets.json
	cmake --preset release

build: install-build build/release/build.ninja
	ninja -C build/release -j $(JOBS) inkstone

run: build
	./build/release/inkstone run -p "Once upon a time" -n 256

test: install-test build/release/build.ninja
	ninja -C build/release -j $(JOBS)
	python3 tools/run_tests.py build/release

asan: install-test
	cmake --preset asan-kernels
	ninja -C build/asan-kernels -j $(JOBS)
	python3 tools/run_tests.py build/asan-kernels

tsan: install-test
	cmake --preset tsan
	ninja -C build/tsan -j $(JOBS) test_base test_cache test_scheduler test_engine
	python3 tools/run_tests.py build/tsan base cache scheduler engine

fuzz: install-test
	cmake --preset asan
	ninja -C build/asan -j $(JOBS) fuzzers
	python3 tools/run_fuzzers.py build/asan

lint: install-test
	python3 tools/check_layers.py
	python3 tools/check_sources.py

clean:
	rm -rf build
