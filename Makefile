# What a maintainer runs. One optimised profile everywhere, so that everything is compiled once.
.PHONY: test strangers lint fmt doc bench bench-peers soak soak-load fuzz

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

# Beside Debian's Postfix, alone and with OpenDKIM (root; docs/performance.md).
bench-peers:
	cargo build --release
	scripts/bench-peers

# The proofs at length, some hours: kills at random and at every failpoint, power cuts, damage,
# simulated days. docs/reliability.md.
soak: strangers
	WAXSEAL_POWER_STATES=100000 cargo test --release --test it -- --nocapture a_power_cut
	WAXSEAL_DAMAGES=10000 cargo test --release --test it -- --nocapture damage_sends
	WAXSEAL_FAILPOINT_ROUNDS=20 cargo test --release --test it -- --nocapture a_death_at_any_failpoint
	WAXSEAL_CRASH_ROUNDS=10000 cargo test --release --test it -- --nocapture sigkill
	WAXSEAL_SIMULATION_SEEDS=100000 cargo test --release --test it -- --nocapture simulation

# A steady load for some hours: whether memory, descriptors or the spool grow. docs/performance.md.
soak-load:
	scripts/soak-load $(HOURS)

# A minute for each fuzz target; needs a nightly toolchain (and builds cargo-fuzz where it is missing).
fuzz:
	scripts/fuzz.sh $(SECONDS_EACH)
