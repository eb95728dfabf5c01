//! Changes of tenants' files by several at once.

use std::sync::Barrier;

use waxseal::config::Config;
use waxseal::tenant::{self, edit};

const HASH: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$bm9ib2R5IGhhcyB0aGlz$VjxZbB9Wl2bxlD0gYcYHcYOZtTLE0mrKsP5JpL8nJhw";

/// Tenants without domains, in a directory of their own.
fn lay_out(names: &[String]) -> (tempfile::TempDir, Config) {
    let dir = tempfile::tempdir().unwrap();
    let mut config = Config::new("relay.test".parse().unwrap(), dir.path());
    config.tenants = dir.path().join("tenants");
    std::fs::create_dir(&config.tenants).unwrap();
    for name in names {
        edit::add_tenant(&config, name, &format!("{name}-first"), HASH).unwrap();
    }
    (dir, config)
}

/// Does it for 0 to `count` at the same time.
fn at_once<T: Send>(count: usize, act: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let barrier = Barrier::new(count);
    let (act, barrier) = (&act, &barrier);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..count)
            .map(|at| {
                scope.spawn(move || {
                    barrier.wait();
                    act(at)
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

#[test]
fn of_changes_at_once_to_a_tenant_none_is_lost() {
    let (_dir, config) = lay_out(&["acme".to_owned()]);
    let done = at_once(8, |at| {
        (0..4).all(|turn| edit::add_login(&config, "acme", &format!("u{at}-{turn}"), HASH).is_ok())
    });
    assert!(done.iter().all(|done| *done), "{done:?}");
    let logins = |config| tenant::load(config).unwrap().tenant("acme").unwrap().logins.len();
    assert_eq!(logins(&config), 33, "all of them, and the first");
    let done = at_once(8, |at| match at {
        0 => edit::set_disabled(&config, "acme", false),
        at => edit::revoke_login(&config, "acme", &format!("u{at}-0")),
    });
    assert!(done.iter().all(Result::is_ok), "{done:?}");
    assert_eq!(logins(&config), 26, "who is revoked is gone");
}

#[test]
fn of_two_that_take_the_same_domain_one_is_refused() {
    let names: Vec<String> = (0..6).map(|at| format!("t{at}")).collect();
    let (_dir, config) = lay_out(&names);
    for turn in 0..4 {
        let domain = format!("d{turn}.example").parse().unwrap();
        let done = at_once(names.len(), |at| edit::add_domain(&config, &names[at], &domain));
        assert_eq!(done.iter().filter(|done| done.is_ok()).count(), 1, "{done:?}");
        tenant::load(&config).unwrap();
    }
    let done = at_once(6, |_| edit::add_tenant(&config, "new", "new", HASH));
    assert_eq!(done.iter().filter(|done| done.is_ok()).count(), 1, "{done:?}");
}
