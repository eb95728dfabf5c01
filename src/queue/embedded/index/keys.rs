//! The index's keys: small, and sorted as they are asked for.

use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::lanes::{Item, StreamKey};
use super::row::row_key;
use super::rows::doubt;
use super::tree::Tree;
use crate::mail::id::Id;
use crate::mail::message::Lane;
use crate::mail::time::Time;
use crate::queue::store::Destination;

/// Up to where the journal is contained in sled.
pub(super) const APPLIED: &[u8] = b"applied";
/// Totals and use of segments, written when the store is closed.
pub(super) const SIZES: &[u8] = b"sizes";
/// There once the journal was seen to be damaged, with the segments in which records were: a message may be missing here of which
/// there is a body, or a record that the disk may yet read.
pub(super) const DAMAGED: &[u8] = b"broken";
/// First octets of due keys: of legs that are due, and of those that are held.
const STREAMS: [u8; 2] = [b'd', b'h'];
/// Octets of an item within a due key.
const ITEM: usize = 8 + 16 + 2;

const LANES: [Lane; 4] = [Lane::Urgent, Lane::Important, Lane::Normal, Lane::Bulk];

/// What all due keys of a stream begin with. Names hold no NUL: they are domains, hosts and tenants' names.
pub(super) fn stream_prefix(key: &StreamKey) -> Vec<u8> {
    let StreamKey { lane, held, tenant, destination } = key;
    let first = if *held { b'h' } else { b'd' };
    [&[first, *lane as u8], tenant.as_bytes(), &[0], destination.0.as_bytes(), &[0]].concat()
}

/// A leg's due key.
pub(super) fn due_key(key: &StreamKey, item: &Item) -> Vec<u8> {
    let mut out = stream_prefix(key);
    out.extend_from_slice(&item.due.0.to_be_bytes());
    out.extend_from_slice(&item.id.to_bytes());
    out.extend_from_slice(&item.leg.to_be_bytes());
    out
}

/// The item that the end of a due key names.
pub(super) fn item(rest: &[u8]) -> Option<Item> {
    if rest.len() != ITEM {
        return None;
    }
    let due = u64::from_be_bytes(*rest.first_chunk()?);
    let id = Id::from_bytes(*rest.get(8..)?.first_chunk()?);
    let leg = u16::from_be_bytes(*rest.last_chunk()?);
    Some(Item { due: Time(due), id, leg })
}

fn stream(key: &[u8]) -> Option<(StreamKey, Item)> {
    let (names, rest) = key.get(2..)?.split_at_checked(key.len().checked_sub(2 + ITEM)?)?;
    let lane = *LANES.get(usize::from(*key.get(1)?))?;
    let held = key.first() == Some(&b'h');
    let (tenant, destination) = std::str::from_utf8(names.strip_suffix(&[0])?).ok()?.split_once('\0')?;
    let destination = Destination(Arc::from(destination));
    Some((StreamKey { lane, held, tenant: Arc::from(tenant), destination }, item(rest)?))
}

/// Every stream in sled with its first leg: one look-up a stream, whatever its length.
pub(super) fn streams(db: &sled::Db) -> sled::Result<Vec<(StreamKey, Item)>> {
    let mut found = Vec::new();
    for octet in STREAMS {
        let mut from: Vec<u8> = vec![octet];
        while let Some(entry) = db.range(from.clone()..vec![octet + 1]).next() {
            let (key, first) = stream(&entry?.0).ok_or_else(|| doubt("a due key cannot be read"))?;
            from = stream_prefix(&key);
            from.extend_from_slice(&[0xff; ITEM + 1]);
            found.push((key, first));
        }
    }
    Ok(found)
}

/// The key of a piece of a row.
pub(super) fn piece_key(id: Id, piece: u16) -> [u8; 19] {
    let mut key = [0; 19];
    key.iter_mut().zip(row_key(id).into_iter().chain(piece.to_be_bytes())).for_each(|(to, from)| *to = from);
    key
}

/// The key that marks a message with owed failures.
pub(super) fn owed_key(id: Id) -> [u8; 17] {
    let mut key = row_key(id);
    if let Some(first) = key.first_mut() {
        *first = b'o';
    }
    key
}

/// Ids of the keys with this first octet, from this id on, each once, at most so many.
pub(super) fn ids(db: &sled::Db, first: u8, from: Id, most: usize) -> sled::Result<Vec<Id>> {
    let mut start = row_key(from).to_vec();
    start.splice(..1, [first]);
    let mut found: Vec<Id> = Vec::new();
    for key in db.range(start..vec![first + 1]).keys() {
        let key = key?;
        let Some(id) = key.get(1..).and_then(<[u8]>::first_chunk).map(|id| Id::from_bytes(*id)) else {
            continue;
        };
        if found.last() == Some(&id) {
            continue;
        }
        if found.len() >= most {
            break;
        }
        found.push(id);
    }
    Ok(found)
}

/// The id behind this one.
pub(super) fn successor(id: Id) -> Option<Id> {
    u128::from_be_bytes(id.to_bytes()).checked_add(1).map(|next| Id::from_bytes(next.to_be_bytes()))
}

/// The key of a memo.
pub(super) fn memo_key(key: &str) -> Vec<u8> {
    [b"k", key.as_bytes()].concat()
}

/// Writes a value.
pub(super) fn put<T: Serialize>(tree: &Tree, key: &[u8], value: &T) -> sled::Result<()> {
    let octets = postcard::to_stdvec(value).map_err(|_| doubt("a value cannot be written"))?;
    tree.insert(key, &octets).map(drop)
}

/// Reads a value; `None` where it is absent or unreadable.
pub(super) fn take<T: DeserializeOwned>(tree: &Tree, key: &[u8]) -> sled::Result<Option<T>> {
    Ok(tree.read().get(key)?.and_then(|octets| postcard::from_bytes(&octets).ok()))
}
