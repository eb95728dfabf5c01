//! The lists on a real store: whom they know, what survives a restart, what the store does not take.

use super::*;
use crate::clock::Clock;
use crate::queue::embedded::{Embedded, Options};
use crate::queue::store::Turns;

fn store(dir: &std::path::Path) -> Arc<dyn Store> {
    let options = Options {
        turns: Turns { per_destination: 1, total: 1 },
        window: 10,
        body_cache: 1 << 20,
        index_cache: 1 << 20,
        read_memory: 64 << 20,
        index_slack: 0,
        disk_reserve: 0,
        clock: Clock::System,
    };
    Embedded::open(dir, options).unwrap()
}

/// A list whose store has its index.
async fn list(dir: &std::path::Path) -> List {
    let list = List::new(store(dir), Arc::new(Metrics::new()));
    while let Err(error) = list.load().await {
        assert!(matches!(error, StoreError::Rebuilding), "{error}");
        list.store.nudged().await;
    }
    list
}

fn address(text: &str) -> Address {
    text.parse().unwrap()
}

fn entry(text: &str, reason: Reason) -> Entry {
    Entry::new(&address(text), reason, Time(1_000_000), "said")
}

fn reason(
    list: &List,
    tenant: &str,
    class: Option<&str>,
    rule: Suppression,
) -> impl Fn(&str) -> Option<Reason> {
    let (tenant, class) = (tenant.to_owned(), class.map(str::to_owned));
    move |text| {
        let question = Question { tenant: &tenant, class: class.as_deref(), rule };
        list.find(&question, &address(text)).map(|listed| listed.reason)
    }
}

async fn everything(list: &List, tenant: &str) -> Vec<Entry> {
    let mut all = Vec::new();
    for portion in 0..PORTIONS {
        all.extend(list.portion(tenant, portion).await.unwrap());
    }
    all.sort_by(|one, other| one.address.cmp(&other.address));
    all
}

#[tokio::test]
async fn whom_it_knows() {
    let dir = tempfile::tempdir().unwrap();
    let list = list(dir.path()).await;
    let news = vec![
        entry("Gone@there.test", Reason::Bounce),
        entry("angry@there.test", Reason::Complaint),
        entry("bored@there.test", Reason::Unsubscribe).of_class("program_email"),
        entry("gone@there.test", Reason::Manual),
    ];
    assert_eq!(list.add("acme", news).await.unwrap().len(), 3, "an address twice is one entry");
    let all = reason(&list, "acme", None, Suppression::All);
    assert_eq!(all("gone@There.test"), Some(Reason::Bounce), "case counts for nothing");
    assert_eq!(all("angry@there.test"), Some(Reason::Complaint));
    assert_eq!(all("bored@there.test"), None, "of one class only");
    let mild = reason(&list, "acme", Some("password_reset"), Suppression::NoComplaints);
    assert_eq!((mild("gone@there.test"), mild("angry@there.test")), (Some(Reason::Bounce), None));
    let off = reason(&list, "acme", Some("program_email"), Suppression::Off);
    assert_eq!((off("gone@there.test"), off("bored@there.test")), (None, Some(Reason::Unsubscribe)));
    let other = reason(&list, "blue", None, Suppression::All);
    assert_eq!(other("gone@there.test"), None, "another tenant's list");
}

#[tokio::test]
async fn a_stronger_reason_takes_a_complaints_place_and_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let list = list(dir.path()).await;
    list.add("acme", vec![entry("a@there.test", Reason::Complaint)]).await.unwrap();
    assert_eq!(list.add("acme", vec![entry("a@there.test", Reason::Bounce)]).await.unwrap().len(), 1);
    assert!(list.add("acme", vec![entry("a@there.test", Reason::Complaint)]).await.unwrap().is_empty());
    let mild = reason(&list, "acme", None, Suppression::NoComplaints);
    assert_eq!(mild("a@there.test"), Some(Reason::Bounce));
    assert_eq!(everything(&list, "acme").await.len(), 1, "the complaint is gone from the store");
    assert!(list.metrics.render().contains("waxseal_suppressions{reason=\"bounce\"} 1"));
    assert!(list.metrics.render().contains("waxseal_suppressions{reason=\"complaint\"} 0"));
}

#[tokio::test]
async fn it_survives_a_restart_over_many_pages() {
    let dir = tempfile::tempdir().unwrap();
    let names: Vec<String> = (0..3_000).map(|n| format!("user{n}@there.test")).collect();
    {
        let list = list(dir.path()).await;
        for some in names.chunks(700) {
            let entries = some.iter().map(|name| entry(name, Reason::Manual)).collect();
            assert_eq!(list.add("acme", entries).await.unwrap().len(), some.len());
        }
        let gone = [(names[0].clone(), None), (names[2_999].clone(), None), ("x@y.test".to_owned(), None)];
        assert_eq!(list.remove("acme", &gone).await.unwrap(), 2, "one was never there");
        list.add("blue", vec![entry("only@blue.test", Reason::Bounce)]).await.unwrap();
        list.store.close().await.unwrap();
    }
    let list = list(dir.path()).await;
    let all = reason(&list, "acme", None, Suppression::All);
    assert!(names[1..2_999].iter().all(|name| all(name) == Some(Reason::Manual)));
    assert_eq!((all(&names[0]), all(&names[2_999])), (None, None), "what was taken off stays off");
    assert_eq!(everything(&list, "acme").await.len(), 2_998);
    assert_eq!(everything(&list, "blue").await, [entry("only@blue.test", Reason::Bounce)]);
    list.add("acme", vec![entry("late@there.test", Reason::Bounce)]).await.unwrap();
    assert_eq!(
        everything(&list, "acme").await.len(),
        2_999,
        "a page written after the restart takes nobody's place"
    );
}

#[tokio::test]
async fn what_the_store_does_not_take_is_not_known() {
    let dir = tempfile::tempdir().unwrap();
    let list = list(dir.path()).await;
    list.add("acme", vec![entry("a@there.test", Reason::Bounce)]).await.unwrap();
    list.store.close().await.unwrap();
    assert!(list.add("acme", vec![entry("b@there.test", Reason::Bounce)]).await.is_err());
    let all = reason(&list, "acme", None, Suppression::All);
    assert_eq!((all("a@there.test"), all("b@there.test")), (Some(Reason::Bounce), None));
}
