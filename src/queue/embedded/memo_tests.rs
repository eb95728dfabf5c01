//! Memos: the last word on a key outlives the segment that it was written in, and no earlier word comes back.

use std::sync::atomic::{AtomicU64, Ordering};

use super::compaction_tests::{SEGMENT, Watched, open, pass_through, shrinks};
use super::tests::{filled, options, ready, wait};
use super::*;

fn memo(key: &str, value: impl Into<Option<Vec<u8>>>) -> Memo {
    Memo { key: key.to_owned(), value: value.into() }
}

fn recall(store: &Embedded, prefix: &str) -> Vec<(String, Vec<u8>)> {
    wait(store.recall(prefix.to_owned())).unwrap()
}

/// The round in which `n` was written last.
fn counted(store: &Embedded) -> Option<u64> {
    recall(store, "n").pop().map(|(_, value)| u64::from_be_bytes(value.try_into().unwrap()))
}

#[test]
fn memos_outlive_the_segments_they_were_written_in() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let keys: Vec<String> = (0..20).map(|n| format!("dns/d{n:02}.example")).collect();
    let mut wanted: Vec<_> = keys.iter().map(|key| (key.clone(), vec![key.len() as u8; 2500])).collect();
    wait(store.remember(wanted.iter().map(|(key, value)| memo(key, value.clone())).collect())).unwrap();
    wait(store.remember(vec![memo("gone", vec![1; 10]), memo("dns/d03.example", None)])).unwrap();
    wait(store.remember(vec![memo("gone", None), memo("dns/d04.example", Vec::new())])).unwrap();
    wanted.remove(3);
    wanted[3].1.clear();
    let ended = AtomicU64::new(0);
    pass_through(&store, 0..2000, |_| false, &ended);
    shrinks(&store, 4 * SEGMENT);
    assert!(!dir.path().join("spool").join(spool::segment_name(2)).exists());
    let live = ready(&store).live_bytes;
    assert!((18 * 2500..20 * 2700).contains(&live), "{live}");
    let check = |store: &Embedded| {
        assert!(recall(store, "") == wanted);
        assert_eq!(recall(store, "dns/d1").len(), 10);
        assert_eq!((recall(store, "gone"), ready(store).quarantined), (vec![], 0));
        assert_eq!(ready(store).live_bytes, live);
    };
    check(&store);
    wait(store.close()).unwrap();
    let store = open(dir.path());
    check(&store);
    drop(store);
    check(&open(dir.path()));
    std::fs::remove_dir_all(dir.path().join("index")).unwrap();
    check(&open(dir.path()));
}

/// 12 MiB of one key, asked for without waiting: what was replaced does not keep the spool large.
#[test]
fn words_that_were_replaced_do_not_count_as_live() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    wait(async {
        let words = |n: u8| store.remember(vec![memo("one", vec![n; MEMO_VALUE_MAX])]);
        let mut asked: Vec<_> = (0..200).map(words).collect();
        for answer in &mut asked {
            answer.await.unwrap();
        }
    });
    assert!(ready(&store).live_bytes < 2 * MEMO_VALUE_MAX as u64);
    // Compaction looks again when something becomes durable.
    wait(store.remember(vec![memo("two", vec![2])])).unwrap();
    shrinks(&store, 5 * SEGMENT);
    assert!(recall(&store, "o") == [("one".to_owned(), vec![199; MEMO_VALUE_MAX])]);
}

/// What a kill leaves at each removal of a segment, with and without its index.
#[test]
fn a_memo_that_was_replaced_or_forgotten_never_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let known = Arc::new(AtomicU64::new(0));
    let disk = Watched::new(dir.path(), &known);
    let store =
        Embedded::open_with(Arc::clone(&disk) as Arc<dyn Disk>, dir.path(), options(), SEGMENT).unwrap();
    ready(&store);
    wait(store.remember(vec![memo("gone", vec![7; 100]), memo("stays", vec![8; 100])])).unwrap();
    for round in 1..200u64 {
        let mut memos = vec![memo("n", round.to_be_bytes().to_vec())];
        memos.extend((round == 30).then(|| memo("gone", None)));
        wait(store.remember(memos)).unwrap();
        known.store(round, Ordering::SeqCst);
        let serials = u128::from(round) * 10..u128::from(round) * 10 + 10;
        pass_through(&store, serials, |_| false, &AtomicU64::new(0));
    }
    drop(store);
    let kept = std::mem::take(&mut *disk.0.kept.lock().unwrap());
    assert!(kept.len() > 50, "{}", kept.len());
    for (round, left) in kept.iter().step_by(3) {
        let check = || {
            let store = open(left.path());
            assert!(counted(&store).is_some_and(|n| n >= *round && n <= *round + 1), "{round}");
            assert!(*round < 30 || recall(&store, "gone").is_empty(), "{round}");
            assert_eq!(recall(&store, "stays").len(), 1, "{round}");
            assert_eq!(ready(&store).quarantined, 0);
        };
        check();
        std::fs::remove_dir_all(left.path().join("index")).unwrap();
        check();
    }
}

#[test]
fn a_memo_that_is_too_large_fails_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let cases = [
        (MEMO_KEY_MAX, MEMO_VALUE_MAX, true, "the largest of both"),
        (MEMO_KEY_MAX + 1, 0, false, "a key that is too long"),
        (1, MEMO_VALUE_MAX + 1, false, "a value that is too large"),
    ];
    for (key, value, fits, why) in cases {
        let memos = vec![memo("beside", vec![1]), memo(&"k".repeat(key), vec![2; value])];
        let kept = wait(store.remember(memos));
        assert_eq!(kept.is_ok(), fits, "{why}");
        assert!(fits || matches!(kept, Err(StoreError::TooLarge(_))), "{why}");
        assert_eq!(recall(&store, "").len(), if fits { 2 } else { 0 }, "{why}: all of a call or nothing");
        wait(store.remember(vec![memo("beside", None), memo(&"k".repeat(MEMO_KEY_MAX), None)])).unwrap();
    }
}

#[test]
fn below_the_reserve_no_memo_is_taken_and_what_is_known_stays_known() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    wait(store.remember(vec![memo("known", vec![1])])).unwrap();
    wait(store.close()).unwrap();
    let full = Options { disk_reserve: u64::MAX, ..options() };
    let store = Embedded::open(dir.path(), full).unwrap();
    ready(&store);
    assert!(matches!(wait(store.remember(vec![memo("new", vec![1])])), Err(StoreError::Full(_))));
    assert_eq!(recall(&store, ""), [("known".to_owned(), vec![1])]);
}

#[test]
fn a_damaged_memo_is_left_out_and_counted() {
    use std::os::unix::fs::FileExt;
    let dir = tempfile::tempdir().unwrap();
    let segment = filled(dir.path(), 0);
    let store = Embedded::open(dir.path(), options()).unwrap();
    ready(&store);
    for (key, octet) in [("a", b'A'), ("b", b'B'), ("c", b'C')] {
        wait(store.remember(vec![memo(key, vec![octet; 500])])).unwrap();
    }
    let segment = segment.with_file_name(spool::segment_name(2));
    let octets = std::fs::read(&segment).unwrap();
    let at = octets.windows(500).position(|octets| octets == [b'B'; 500]).unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(&segment).unwrap();
    file.write_all_at(b"x", at as u64).unwrap();
    let keys: Vec<_> = recall(&store, "").into_iter().map(|(key, _)| key).collect();
    assert_eq!((keys, ready(&store).quarantined), (vec!["a".to_owned(), "c".to_owned()], 1));
}
