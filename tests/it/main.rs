//! Every integration test, in one binary: real sockets, real DNS, the real store, the real program, and strangers.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    missing_docs,
    unreachable_pub,
    reason = "a test that cannot go on should stop, and say where"
)]

mod admit;
mod apart;
mod bounce;
mod catalogue;
mod certificates;
mod classes;
mod classes_cli;
mod classes_world;
mod cli;
mod cli_files;
mod cli_keys;
mod config;
mod configuration_page;
mod corruption;
mod crash;
mod decisions;
mod deliver;
mod deliver_by;
mod deliver_dane;
mod deliver_dns;
mod deliver_faults;
mod deliver_lettre;
mod deliver_mx;
mod deliver_sources;
mod deliver_sts;
mod deliver_tls;
mod deliver_traps;
mod deliver_upstream;
mod descriptors;
mod dialogue;
mod disk;
mod disk_faults;
mod disposal;
mod doctor;
mod edits;
mod egress;
mod exchanger;
mod failover;
mod fairness;
mod follow;
mod front;
mod fuzz;
mod hang_up;
mod holds;
mod hops;
mod inbound;
mod inbound_tell;
mod intake;
mod layering;
mod limits;
mod lockfile;
mod lockout;
mod memory;
mod oauth;
mod open_relay;
mod oracle;
mod pacing;
mod pki;
mod platform;
mod postfix;
mod power;
mod priority;
mod probe;
mod readme;
mod rebuild;
mod relay;
mod require_tls;
mod rig;
mod routes;
mod salvage;
mod sandbox;
mod schedule;
mod schedule_days;
mod schedule_wire;
mod seal;
mod seal_refusals;
mod seal_rotation;
mod seal_watch;
mod seal_zones;
mod seats;
mod secrets;
mod session_limits;
mod session_machine;
mod session_wire;
mod signals;
mod signed;
mod simulation;
mod sink;
mod slow;
mod spf_suite;
mod store_model;
mod strace;
mod strangers;
mod strangers_bounce;
mod strangers_by;
mod strangers_dkim;
mod strangers_hops;
mod strangers_postfix;
mod strangers_submit;
mod suppress;
mod suppress_cli;
mod survey;
mod tls_reports;
mod trial;
mod unsubscribe;
mod verbs;
mod versions;
mod vouching;
mod web;
mod whole_way;
mod world;
