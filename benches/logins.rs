//! Whether the time of a refusal tells which user names exist (AU3): `cargo bench --bench logins` makes 1,000 tries
//! (`WAXSEAL_TRIES`) each at known and at unknown names, in turn, with the hashes that `tenant add` makes, and prints the
//! medians. What two halves of one series differ by is the noise that a difference has to stand out from.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench prints its figures and stops where it cannot go on"
)]

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use waxseal::mail::secret::SecretString;
use waxseal::tenant::auth::{Gate, Verdict};
use waxseal::tenant::{
    BareNewlines, Directory, Login, Route, Signing, SuppressionRules, Tenant, TenantLimits, Tenants, password,
};

/// Tries in pairs: the second of a pair is the other kind's, so that whatever the machine does meets both.
fn main() {
    let tries = std::env::var("WAXSEAL_TRIES").ok().and_then(|n| n.parse().ok()).unwrap_or(1_000);
    let gate = Gate::new(Arc::new(Tenants::from_pointee(Directory::new([tenant(tries)]))));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (mut known, mut unknown) = (Vec::new(), Vec::new());
        // The first tries pay for pages and threads.
        for n in 0..10 {
            refused(&gate, tries + n, &format!("first{n}")).await;
        }
        for n in 0..tries {
            let (real, none) = (format!("login{n}"), format!("guess{n}"));
            if n % 2 == 0 {
                known.push(refused(&gate, n, &real).await);
                unknown.push(refused(&gate, n, &none).await);
            } else {
                unknown.push(refused(&gate, n, &none).await);
                known.push(refused(&gate, n, &real).await);
            }
        }
        report(&known, &unknown);
    });
}

/// One whose logins are as many as the tries: a name guessed at more than thirty times is throttled, and not hashed at all.
fn tenant(logins: u32) -> Tenant {
    let hash = password::hash(&SecretString::from("the password of all of them")).unwrap();
    let login = |n| Login { username: format!("login{n}").into(), password: hash.clone(), class: None };
    Tenant {
        name: "bench".into(),
        networks: Vec::new(),
        notify: Vec::new(),
        logins: (0..logins).map(login).collect(),
        domains: Vec::new(),
        route: Arc::new(Route::Mx),
        fallbacks: Vec::new(),
        signing: Signing::default(),
        limits: TenantLimits::default(),
        bare_newlines: BareNewlines::Refuse,
        classes: waxseal::config::Classes::default(),
        suppression: SuppressionRules::default(),
    }
}

/// How long a wrong password takes, from an address of its own.
async fn refused(gate: &Gate, n: u32, name: &str) -> Duration {
    let ip = IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + n));
    let started = Instant::now();
    let verdict = gate.check(ip, name, SecretString::from("a guess")).await;
    let took = started.elapsed();
    assert!(matches!(verdict, Verdict::Refused), "{name}: {verdict:?}");
    took
}

fn report(known: &[Duration], unknown: &[Duration]) {
    let half = |of: &[Duration], at: usize| median(of.iter().skip(at).step_by(2).copied());
    let noise = half(known, 0).abs_diff(half(known, 1)).max(half(unknown, 0).abs_diff(half(unknown, 1)));
    let (of_known, of_unknown) = (median(known.iter().copied()), median(unknown.iter().copied()));
    println!("known names:   {of_known:?} at the median of {}", known.len());
    println!("unknown names: {of_unknown:?} at the median of {}", unknown.len());
    println!("they differ by {:?}; halves of one series differ by {noise:?}", of_known.abs_diff(of_unknown));
}

fn median(times: impl Iterator<Item = Duration>) -> Duration {
    let mut sorted: Vec<_> = times.collect();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}
