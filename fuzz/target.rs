//! One fuzz target; Cargo.toml builds it once under each name of `targets::TARGETS`.
#![no_main]

mod targets;

libfuzzer_sys::fuzz_target!(|octets: &[u8]| targets::named(env!("CARGO_BIN_NAME"))(octets));
