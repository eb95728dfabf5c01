# What a maintainer runs. One optimised profile everywhere, so that everything is compiled once.
.PHONY: test strangers lint fmt doc bench soak

# nextest runs tests in parallel, each in a process of its own; plain cargo test does where it is missing.
RUN := $(shell cargo nextest --version >/dev/null 2>&1 && echo "nextest run" || echo test)

test: strangers
	cargo $(RUN) --release
	@if [ -s target/strangers/absent ]; then echo "Not run, for want of:"; sed 's/^/  /' target/strangers/absent; \
	else echo "Every stranger was here: every test ran."; fi

strangers:
	scripts/strangers.sh

lint:
	cargo fmt --check
	cargo clippy --release --all-targets -- -D warnings

fmt:
	cargo fmt

doc:
	RUSTDOCFLAGS="-D warnings" cargo doc --release --no-deps

bench:
	cargo bench

# The kill test and the simulated days for as long as one likes: an hour or so.
soak: strangers
	WAXSEAL_CRASH_ROUNDS=10000 cargo test --release --test it -- sigkill --nocapture
	WAXSEAL_SIMULATION_SEEDS=100000 cargo test --release --test it -- simulation --nocapture
