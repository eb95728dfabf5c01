//! Bodies that are read back: what waits for memory or for a descriptor keeps nobody else waiting.

use std::collections::HashSet;
use std::time::Duration;

use super::tests::{Attended, Attends, message, options, ready};
use super::*;

/// A disk on which some files cannot be opened, for want of descriptors.
#[derive(Default)]
struct Starved {
    closed: Mutex<HashSet<PathBuf>>,
    tries: tokio::sync::watch::Sender<usize>,
}

impl Attends for Starved {
    fn opening(&self, path: &Path) -> io::Result<()> {
        if self.closed.lock().unwrap().contains(path) {
            self.tries.send_modify(|tries| *tries += 1);
            return Err(io::Error::from_raw_os_error(rustix::io::Errno::MFILE.raw_os_error()));
        }
        Ok(())
    }
}

/// A disk that stops before it opens one file until the test lets it go on, and finds then that it has gone.
#[derive(Default)]
struct Late {
    file: Mutex<Option<PathBuf>>,
    stopped: tokio::sync::Notify,
    on: (Mutex<bool>, std::sync::Condvar),
}

impl Attends for Late {
    fn opening(&self, path: &Path) -> io::Result<()> {
        let (on, told) = &self.on;
        if self.file.lock().unwrap().take_if(|file| file == path).is_some() {
            self.stopped.notify_one();
            // Not for ever: a test that fails ends, too.
            drop(told.wait_timeout_while(on.lock().unwrap(), Duration::from_secs(30), |on| !*on).unwrap());
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(())
    }
}

/// A message may end between the word where its body lies and the opening of that file: it is gone then, not damaged.
#[tokio::test]
async fn a_message_that_ends_while_it_is_looked_for_is_not_damaged() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), Arc::new(Attended::<Late>::default()));
    let store = Embedded::open_on(Arc::clone(&disk) as _, dir.path(), options()).unwrap();
    let id = put(&store, 1, INLINE_MAX + 1).await;
    indexed(&store).await;
    *disk.0.file.lock().unwrap() = Some(store.spool.body_path(id));
    let reading = tokio::spawn({
        let store = Arc::clone(&store);
        async move { store.message(id).await }
    });
    disk.0.stopped.notified().await;
    let ended = store.act(Filter::default(), Action::Drop, Time(5)).await.unwrap();
    assert_eq!(ended.len(), 1);
    *disk.0.on.0.lock().unwrap() = true;
    disk.0.on.1.notify_all();
    assert!(reading.await.unwrap().unwrap().is_none());
    assert_eq!(store.stats().await.unwrap().quarantined, 0);
}

#[tokio::test]
async fn a_message_whose_file_is_missing_is_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let store = Embedded::open(dir.path(), options()).unwrap();
    let id = put(&store, 1, INLINE_MAX + 1).await;
    indexed(&store).await;
    std::fs::remove_file(store.spool.body_path(id)).unwrap();
    assert!(matches!(store.message(id).await, Err(StoreError::Damaged(damaged)) if damaged == id));
    assert_eq!(store.stats().await.unwrap().quarantined, 1, "said and counted once");
}

/// Waits for the index.
async fn indexed(store: &Arc<Embedded>) {
    let store = Arc::clone(store);
    tokio::task::spawn_blocking(move || ready(&store)).await.unwrap();
}

/// A message with a body of so many octets.
async fn put(store: &Embedded, serial: u128, octets: usize) -> Id {
    put_for(store, "t", serial, octets).await
}

async fn put_for(store: &Embedded, tenant: &str, serial: u128, octets: usize) -> Id {
    let mut accept = message(serial);
    let facts = Facts { tenant: tenant.into(), ..accept.message.facts.clone() };
    let id = facts.id;
    accept.message = Arc::new(Message { facts, body: vec![b'x'; octets].into() });
    store.accept(accept).await.unwrap();
    id
}

#[tokio::test]
async fn a_body_without_a_descriptor_keeps_no_other_waiting() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), Arc::new(Attended::<Starved>::default()));
    let store = Embedded::open_on(Arc::clone(&disk) as _, dir.path(), options()).unwrap();
    indexed(&store).await;
    let mut starved = Vec::new();
    // More than there are threads.
    for serial in 0..5 {
        let id = put(&store, serial, INLINE_MAX + 1).await;
        disk.0.closed.lock().unwrap().insert(store.spool.body_path(id));
        starved.push(id);
    }
    let fed = put(&store, 9, INLINE_MAX + 1).await;
    let waiting: Vec<_> = starved
        .iter()
        .map(|id| {
            let (store, id) = (Arc::clone(&store), *id);
            tokio::spawn(async move { store.message(id).await })
        })
        .collect();
    disk.0.tries.subscribe().wait_for(|tries| *tries >= 10).await.unwrap();
    assert!(store.message(fed).await.unwrap().is_some(), "read while five others wait");
    assert!(waiting.iter().all(|one| !one.is_finished()));
    disk.0.closed.lock().unwrap().clear();
    for one in waiting {
        assert_eq!(
            one.await.unwrap().unwrap().unwrap().body.len(),
            INLINE_MAX + 1,
            "and none of them is damaged"
        );
    }
    assert_eq!(store.stats().await.unwrap().quarantined, 0);
}

#[tokio::test]
async fn bodies_that_are_read_back_share_a_bound() {
    let dir = tempfile::tempdir().unwrap();
    let store = Embedded::open(dir.path(), Options { read_memory: 1 << 20, ..options() }).unwrap();
    indexed(&store).await;
    let first = put(&store, 1, 700 << 10).await;
    let second = put(&store, 2, 700 << 10).await;
    let whole = put(&store, 3, 5 << 20).await;
    let small = put(&store, 4, 64 << 10).await;
    let held = store.message(first).await.unwrap().unwrap();
    let piece = held.body.slice(..10);
    drop(held);
    let mut waits = std::pin::pin!(store.message(second));
    // With a piece of the first still in somebody's hands, its octets are all in memory.
    for _ in 0..3 {
        assert!(now(&mut waits).await.is_none(), "no room for the second");
        assert!(store.message(small).await.unwrap().is_some(), "a small one does not wait");
    }
    drop(piece);
    let second = waits.await.unwrap().unwrap();
    assert_eq!(second.body.len(), 700 << 10);
    drop(second);
    let whole = store.message(whole).await.unwrap().unwrap();
    assert_eq!(whole.body.len(), 5 << 20, "larger than the bound, it is read when it is alone");
    let other = Arc::from("other");
    assert!(store.room.try_take(&other, 1 << 19).is_none());
    drop(whole);
    assert!(store.room.try_take(&other, 1 << 20).is_some(), "every octet came back");
}

/// Receivers that take one tenant's mail slowly hold up no other tenant's.
#[tokio::test]
async fn one_tenants_bodies_leave_half_to_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let store = Embedded::open(dir.path(), Options { read_memory: 1 << 20, ..options() }).unwrap();
    indexed(&store).await;
    let mut theirs = Vec::new();
    for serial in 0..3 {
        theirs.push(put_for(&store, "slow", serial, 250 << 10).await);
    }
    let other = put_for(&store, "other", 9, 500 << 10).await;
    let held = [store.message(theirs[0]).await.unwrap(), store.message(theirs[1]).await.unwrap()];
    let mut third = std::pin::pin!(store.message(theirs[2]));
    for _ in 0..3 {
        assert!(now(&mut third).await.is_none(), "a third of theirs waits, with half of the memory free");
        assert!(store.message(other).await.unwrap().is_some(), "another tenant's does not");
    }
    drop(held);
    assert!(third.await.unwrap().is_some());
}

/// What a future answers now, if it does.
async fn now<T>(future: &mut (impl Future<Output = T> + Unpin)) -> Option<T> {
    std::future::poll_fn(|context| match Pin::new(&mut *future).poll(context) {
        std::task::Poll::Ready(value) => std::task::Poll::Ready(Some(value)),
        std::task::Poll::Pending => std::task::Poll::Ready(None),
    })
    .await
}
